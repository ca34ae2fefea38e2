"""Set-based statements: many rows, one statement, typed by the Core table.

``COPY`` is refused under row-level security, and one statement per row costs twenty times more
than one per batch, so rows travel as one array per column and are unnested in the database.

Rows are found by key inside a fence (``LATERAL … OFFSET 0``). The planner counts the list of the
tenants' policy as ten index searches for each key, so that a batch of keys looks dearer than
reading the whole tenant, and in the open it joins by hash: 25 ms for 470 keys of 50,000 rows,
against 3 ms through the index (docs/adr/0005).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Table, TextClause
from sqlalchemy.dialects import postgresql

from subledger.platform.db import Tx, sql

_dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def split(keys: Iterable[tuple[UUID, UUID]]) -> dict[str, list[UUID]]:
    """Each key once, as the parameters ``tenants`` and ``ids``; the statements order what they
    lock themselves."""
    once = dict.fromkeys(keys)
    return {"tenants": [tenant for tenant, _ in once], "ids": [each for _, each in once]}


def _arrays(table: Table, columns: Sequence[str]) -> str:
    """``unnest`` of one array parameter per column, cast to the column's own type."""
    casts = []
    for name in columns:
        kind = table.c[name].type.compile(_dialect)
        # An array column cannot be unnested element by element: it travels as JSON text.
        casts.append(
            f"CAST(:{name} AS text[])" if kind.endswith("[]") else f"CAST(:{name} AS {kind}[])"
        )
    return f"unnest({', '.join(casts)}) WITH ORDINALITY AS row({', '.join(columns)}, row_n)"


def _selected(table: Table, columns: Sequence[str]) -> str:
    parts = []
    for name in columns:
        kind = table.c[name].type.compile(_dialect)
        if kind.endswith("[]"):
            parts.append(f"ARRAY(SELECT jsonb_array_elements_text(row.{name}::jsonb))::{kind}")
        else:
            parts.append(f"row.{name}")
    return ", ".join(parts)


def by_keys(table: str, **keys: str) -> str:
    """``FROM`` the given keys in ascending order, each with its rows of ``table`` (name, alias).

    Each keyword names a column, its value the array parameter and, if it is not ``uuid``, the
    type: ``by_keys("sandbox.methods m", tenant_id="tenants", token="tokens text")``. The keys are
    ``w``, and ``FOR NO KEY UPDATE OF`` the alias locks rows in the order of the keys. Conditions
    outside see a row as it is once it is locked.
    """
    name, alias = table.split()
    arrays = []
    for given in keys.values():
        parameter, _, kind = given.partition(" ")
        arrays.append(f"CAST(:{parameter} AS {kind or 'uuid'}[])")
    columns = ", ".join(keys)
    return (
        f"FROM (SELECT * FROM unnest({', '.join(arrays)}) AS k({columns}) ORDER BY {columns}) AS w"
        f" {same_keys(name, alias, keys)}"
    )


def same_keys(name: str, alias: str, keys: Iterable[str], *, of: str = "w") -> str:
    """Join the rows of a table that have the keys of ``of``, through the index and in its order."""
    same = " AND ".join(f"r.{key} = {of}.{key}" for key in keys)
    return f"CROSS JOIN LATERAL (SELECT * FROM {name} r WHERE {same} OFFSET 0) AS {alias}"


class Insert:
    """``INSERT … SELECT unnest(…)`` into ``table``; values by column name.

    ``conflict`` is the text after ``ON CONFLICT`` (then give rows sorted by that key, so that two
    writers lock in one order). JSON columns take JSON text; array columns take JSON text too.
    """

    def __init__(
        self, table: Table, columns: Sequence[str], *, conflict: str | None = None
    ) -> None:
        self._columns = tuple(columns)
        tail = f" ON CONFLICT {conflict}" if conflict else ""
        self.statement: TextClause = sql(
            f"INSERT INTO {table.fullname} ({', '.join(columns)})"
            f" SELECT {_selected(table, columns)} FROM {_arrays(table, columns)}"
            f" ORDER BY row.row_n{tail}"
        )

    async def __call__(self, tx: Tx, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert the rows in the order given; tells how many were written."""
        given = list(rows)
        if not given:
            return 0
        return await tx.run(
            self.statement, **{name: [row[name] for row in given] for name in self._columns}
        )


class NotLocked(AssertionError):
    """An update did not find a row: it is not there, was given twice, or was not locked."""


class Update:
    """``UPDATE … FROM unnest(…)`` of rows that this transaction has locked already.

    ``keys`` find the row, ``sets`` are replaced. The rows must have been locked in order before:
    they are found by their place (``ctid``), which cannot change under a lock.
    """

    def __init__(self, table: Table, *, keys: Sequence[str], sets: Sequence[str]) -> None:
        self._columns = (*keys, *sets)
        values = [_selected(table, [name]) for name in sets]
        same = " AND ".join(f"r.{name} = row.{name}" for name in keys)
        self.statement: TextClause = sql(
            f"UPDATE {table.fullname} AS t SET "
            + ", ".join(f"{name} = {value}" for name, value in zip(sets, values, strict=True))
            + f" FROM (SELECT row.*, f.place FROM {_arrays(table, self._columns)} CROSS JOIN"
            f" LATERAL (SELECT r.ctid AS place FROM {table.fullname} r WHERE {same} OFFSET 0) AS f"
            ") AS row WHERE t.ctid = row.place"
        )

    async def __call__(self, tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
        """Update the rows. Raises NotLocked, which rolls everything back, if one is not found."""
        given = list(rows)
        if not given:
            return
        found = await tx.run(
            self.statement, **{name: [row[name] for row in given] for name in self._columns}
        )
        if found != len(given):
            raise NotLocked(f"{found} of {len(given)} rows found by {self.statement.text[:60]}")
