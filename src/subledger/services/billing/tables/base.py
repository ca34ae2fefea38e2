"""What the tables of the schema ``billing`` have in common."""

from __future__ import annotations

from sqlalchemy import DateTime, MetaData

metadata = MetaData(schema="billing")
when = DateTime(timezone=True)
