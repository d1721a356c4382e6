"""SQL, written once and compiled once for each database.

Reads are SQLAlchemy Core selects. Writes are `Op`s: "insert these rows" and "set these columns of the rows with this key", made
from the table definitions, so that a batch of any size is one statement (PostgreSQL: `unnest`; SQLite: `executemany`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, Select, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.types import TypeEngine

__all__ = ["Op", "Query", "close_shelf", "delete_older", "doom", "insert", "update"]

Row = tuple[Any, ...]

_SQLITE = sqlite.dialect(paramstyle="named")
_POSTGRES = asyncpg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this constructor without types


class Query:
    """A select with named parameters (`bindparam`); constants written in it are kept with it.

    With a `routine` it is on PostgreSQL a function of that name (`shelf_routine`): one round trip sets the shelf and reads it, for as many
    reads as are waiting.
    """

    def __init__(self, select: Select[Any], *, routine: str | None = None) -> None:
        self._select = select
        self.routine = routine

    @cached_property
    def _sqlite(self) -> tuple[str, dict[str, Any]]:
        compiled = self._select.compile(dialect=_SQLITE)
        return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}

    @cached_property
    def _postgres(self) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        compiled = self._select.compile(dialect=_POSTGRES)
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        return str(compiled), tuple(compiled.positiontup or ()), constants

    def sqlite(self, params: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The text for sqlite3, parameters as ``:name``, and their values."""
        text, constants = self._sqlite
        return text, {**constants, **params} if constants else params

    def postgres(self, params: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The text for asyncpg (``$1``...) and the values in its order."""
        text, order, constants = self._postgres
        return text, [params[name] if name in params else constants[name] for name in order]

    @cached_property
    def _call(self) -> tuple[str, tuple[str, ...]]:
        _, order, _ = self._postgres
        return f"SELECT * FROM {self.routine}({', '.join(f'${i}' for i in range(1, len(order) + 1))})", order

    def call(self, asked: Sequence[Mapping[str, Any]]) -> tuple[str, list[list[Any]]]:
        """The text for asyncpg that calls the routine for many sets of parameters at once, and the values as one list a parameter."""
        text, order = self._call
        return text, [[params[name] for params in asked] for name in order]

    def shelf_routine(self) -> str:
        """The definition of the routine: for each set of parameters it narrows its own transaction to that shelf, then reads.

        Each row says first which set it answers (from 1) and on which shelf it lies. SECURITY INVOKER is PostgreSQL's default: the
        row-level policy on the caller's role stays in force, and compares with the shelf just set.
        """
        text, order, constants = self._postgres
        if self.routine is None or constants or "shelf" not in order:
            raise ValueError("a routine has a name and a shelf, and takes all its values as parameters")
        types = {name: bound.type for name, bound in self._select.compile(dialect=_POSTGRES).binds.items()}
        given = ", ".join(f"{_type(types[name])}[]" for name in order)
        columns = ", ".join(f'"{column.name}" {_type(column.type)}' for column in self._select.selected_columns)
        shelf = f"${order.index('shelf') + 1}[i]"
        read = re.sub(r"\$([0-9]+)", r"$\1[i]", text).replace("SELECT ", f"SELECT i, {shelf}, ", 1)
        return (
            f"CREATE FUNCTION {self.routine}({given}) RETURNS TABLE (asked int, on_shelf text, {columns})"
            " LANGUAGE plpgsql VOLATILE AS $routine$\n#variable_conflict use_column\n"
            "BEGIN\nFOR i IN 1 .. cardinality($1) LOOP\n"
            f"PERFORM set_config('app.shelf', {shelf}, true);\nRETURN QUERY {read};\nEND LOOP;\nEND\n$routine$"
        )


@dataclass(frozen=True, eq=False)
class Op:
    """One kind of write over many rows. `phase` orders the kinds inside a transaction (closing before inserting)."""

    name: str
    phase: int
    columns: tuple[str, ...]
    sqlite: str
    postgres: str

    def columnar(self, rows: Sequence[Row]) -> list[list[Any]]:
        """Rows as one list a column, the shape `unnest` takes."""
        return [list(column) for column in zip(*rows, strict=True)]


def _type(kind: TypeEngine[Any]) -> str:
    if isinstance(kind, BigInteger):
        return "bigint"
    if isinstance(kind, Boolean):
        return "boolean"
    if isinstance(kind, LargeBinary):
        return "bytea"
    return "text"


def _array(column: Column[Any]) -> str:
    return f"{_type(column.type)}[]"


def _join(glue: str, columns: Sequence[str], form: str) -> str:
    return glue.join(form.format(column) for column in columns)


def insert(table: Table, *, phase: int = 2, unless_there: bool = False) -> Op:
    """Insert whole rows, in the order of the table's columns."""
    columns = tuple(c.name for c in table.columns)
    names = ", ".join(f'"{c}"' for c in columns)
    tail = " ON CONFLICT DO NOTHING" if unless_there else ""
    unnest = ", ".join(f"${i}::{_array(c)}" for i, c in enumerate(table.columns, 1))
    return Op(
        name=f"insert {table.name}",
        phase=phase,
        columns=columns,
        sqlite=f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(columns))}){tail}",
        postgres=f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({unnest}){tail}",
    )


def update(table: Table, *, where: Sequence[str], set: Sequence[str], phase: int = 1) -> Op:
    """Set `set` in the row whose `where` columns match; a row given is ``(*set values, *where values)``."""
    columns = (*set, *where)
    unnest = ", ".join(f"${i}::{_array(table.columns[c])}" for i, c in enumerate(columns, 1))
    aliases = ", ".join(f'"v_{c}"' for c in columns)
    return Op(
        name=f"update {table.name} set {','.join(set)}",
        phase=phase,
        columns=columns,
        sqlite="UPDATE {} SET {} WHERE {}".format(table.name, _join(", ", set, '"{}" = ?'), _join(" AND ", where, '"{}" = ?')),
        postgres="UPDATE {} SET {} FROM unnest({}) AS v({}) WHERE {}".format(
            table.name,
            _join(", ", set, '"{0}" = v."v_{0}"'),
            unnest,
            aliases,
            _join(" AND ", where, table.name + '."{0}" = v."v_{0}"'),
        ),
    )


def delete_older(table: Table, column: str) -> Op:
    """Delete the rows whose `column` is below a bound; a row given is ``(bound,)``."""
    return Op(
        name=f"delete {table.name} before {column}",
        phase=4,
        columns=(column,),
        sqlite=f'DELETE FROM {table.name} WHERE "{column}" < ?',
        postgres=f'DELETE FROM {table.name} USING unnest($1::bigint[]) AS v(bound) WHERE {table.name}."{column}" < v.bound',
    )


def doom(table: Table) -> Op:
    """Note that a key must be destroyed; a row given is ``(thread, slot, made, doomed)``, `made` for a key not noted before."""
    upsert = f"ON CONFLICT (thread, slot) DO UPDATE SET doomed = coalesce({table.name}.doomed, excluded.doomed)"
    return Op(
        name=f"doom {table.name}",
        phase=3,
        columns=("thread", "slot", "made", "doomed"),
        sqlite=f"INSERT INTO {table.name} (thread, slot, made, doomed) VALUES (?, ?, ?, ?) {upsert}",
        postgres=f"INSERT INTO {table.name} (thread, slot, made, doomed) SELECT DISTINCT ON (t, s) v.* FROM"
        f" unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) v(t, s, m, d) ORDER BY t, s {upsert}",
    )


def close_shelf(copies: Table) -> Op:
    """Let nobody read any longer what lies on a shelf of a thread, in any search or count; a row given is ``(thread, shelf)``."""
    closed = f"UPDATE {copies.name} SET readable_until = 0"
    return Op(
        name=f"close {copies.name} of a shelf",
        phase=1,
        columns=("thread", "shelf"),
        sqlite=f"{closed} WHERE thread = ? AND shelf = ? AND current",
        postgres=f"{closed} FROM unnest($1::text[], $2::text[]) v(t, s) WHERE thread = v.t AND shelf = v.s AND current",
    )
