"""Set-based writes: many rows, one statement, typed by the Core table.

``COPY`` is refused under row-level security, and one statement per row costs twenty times more
than one per batch, so rows travel as one array per column and are unnested in the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, TextClause
from sqlalchemy.dialects import postgresql

from subledger.platform.db import Tx, sql

_dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


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


class Update:
    """``UPDATE … FROM unnest(…)`` of rows that this transaction has locked already.

    ``keys`` find the row, ``sets`` are replaced. The rows must have been locked in order before
    (an UPDATE … FROM locks in any order).
    """

    def __init__(self, table: Table, *, keys: Sequence[str], sets: Sequence[str]) -> None:
        self._columns = (*keys, *sets)
        values = [_selected(table, [name]) for name in sets]
        self.statement: TextClause = sql(
            f"UPDATE {table.fullname} AS t SET "
            + ", ".join(f"{name} = {value}" for name, value in zip(sets, values, strict=True))
            + f" FROM {_arrays(table, self._columns)} WHERE "
            + " AND ".join(f"t.{name} = row.{name}" for name in keys)
        )

    async def __call__(self, tx: Tx, rows: Iterable[Mapping[str, Any]]) -> int:
        """Update the rows; tells how many were found."""
        given = list(rows)
        if not given:
            return 0
        return await tx.run(
            self.statement, **{name: [row[name] for row in given] for name in self._columns}
        )
