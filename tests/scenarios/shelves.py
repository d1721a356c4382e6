"""What each party sees, from every version of everything that lies on its shelf, read by that party itself over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select

from gateway.storage import tables
from gateway.storage.statements import Query
from gateway.testing.scenario import Cell, Row
from gateway.testing.scenario_facts import Holdings, Written, cell_of
from tests.integration.world import World

__all__ = ["assert_table", "everything"]

Json = dict[str, Any]
_c = tables.copies.c
_HEADS = Query(select(_c.type, _c.id, _c.version).where(_c.shelf == bindparam("shelf")))


async def everything(world: World, who: str, shelf: str) -> list[Json]:
    """Every version on a shelf that its own client can read now."""
    found = []
    for type_, id_, version in await world.hub.parts.database.facts(_HEADS, {"shelf": shelf}):
        response = await world.call(who, "GET", f"/fhir/{type_}/{id_}/_history/{version}")
        if response.status_code == 200:
            found.append(response.json())
    return found


async def assert_table(
    world: World,
    parties: Mapping[str, tuple[str, str]],
    written: Written,
    services: Mapping[str, str],
    rows: Mapping[str, tuple[list[tuple[str, str]], dict[str, Cell]]],
) -> None:
    """Every cell of a scenario's table. `parties`: party -> (its client, its shelf)."""
    holdings = {party: Holdings.of(await everything(world, *of)) for party, of in parties.items()}
    wrong = []
    for name, (of, cells) in rows.items():
        assert set(cells) == set(parties), name
        row = Row(name, tuple(of), None, cells)
        for party, cell in cells.items():
            got = cell_of(row, party, holdings[party], written, services)
            if got != cell:
                wrong.append(f"{name}: {party} must have {cell}, has {got}")
    assert not wrong, "\n".join(wrong)
