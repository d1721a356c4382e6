"""What `gateway party list` and `show` tell: every party with its clients, their keys, and how each was used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.parties.registrar import Registrar, described
from gateway.parties.registration import Registered
from gateway.storage.registrations import UseRow, client_uses

__all__ = ["accounts"]

Json = dict[str, Any]
_NEVER = UseRow("", "", 0, 0, 0, 0)


async def accounts(registrar: Registrar) -> list[Json]:
    """One account a party, by id. Times are real, in UTC. Raises StorageError."""
    uses = {(row.client, row.kid): row for row in await client_uses(registrar.database)}
    clients = described(registrar)
    told = []
    for party in sorted(registrar.loaded.policy.parties.values(), key=lambda each: each.id):
        own = [_client(registrar, client, uses) for client in clients if client.party == party.id]
        standing = registrar.registrations.standings.get(("party", party.id))
        told.append(
            {
                "party": party.id,
                "name": party.name,
                "kind": party.kind,
                "region": party.region,
                "state": "disabled" if standing is not None and standing.disabled else "enabled",
                "used": max((client["used"] for client in own if client["used"]), default=None),
                "failures": sum(client["failures"] for client in own),
                "clients": own,
            }
        )
    return told


def _client(registrar: Registrar, client: Registered, uses: dict[tuple[str, str], UseRow]) -> Json:
    standing = registrar.registrations.standings.get(("client", client.id))
    rows = [row for (name, _), row in uses.items() if name == client.id]
    keys = []
    for key in client.keys:
        use = uses.get((client.id, key.kid), _NEVER)
        keys.append({"kid": key.kid, "added": _shown(key.added), "ends": _shown(key.ends or 0), **_use(use)})
    return {
        "client": client.id,
        "unit": client.entry.get("unit"),
        "role": client.entry["role"],
        "scopes": client.entry["scopes"],
        "from": "file" if client.entry.get("file") else "registered",
        "state": "disabled" if standing is not None and standing.disabled else "enabled",
        "jwks_url": client.entry.get("jwks-url"),
        **_use(
            UseRow(
                client.id,
                "",
                max((row.used for row in rows), default=0),
                sum(row.uses for row in rows),
                max((row.failed for row in rows), default=0),
                sum(row.failures for row in rows),
            )
        ),
        "keys": keys,
    }


def _use(row: UseRow) -> Json:
    return {"used": _shown(row.used), "uses": row.uses, "failed": _shown(row.failed), "failures": row.failures}


def _shown(at: int) -> str | None:
    return datetime.fromtimestamp(at // 1000, UTC).isoformat().replace("+00:00", "Z") if at else None
