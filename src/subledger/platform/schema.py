"""What migrations say about tables: owner, tenants' rows, grants. Used by Alembic scripts only.

Each function emits SQL that stays as it is once released: a change of policy gets a function of
its own, since a migration must mean tomorrow what it meant when it ran first.
"""

from __future__ import annotations

from alembic import op

OWNER = "subledger_owner"

VISIBLE = (
    "coalesce(tenant_id = ANY ((SELECT string_to_array("
    "nullif(current_setting('app.tenants', true), ''), ',')::uuid[])::uuid[]), false)"
)


def run(statements: str) -> None:
    """Run statements separated by a line that holds only ``;;``."""
    for each in statements.split("\n;;\n"):
        if each.strip():
            op.execute(each)


def tenant_table(name: str, *, role: str, privileges: str = "SELECT, INSERT, UPDATE") -> None:
    """Force row-level security on ``schema.table`` by the list of tenants; grant to ``role``."""
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenants ON {name} USING ({VISIBLE}) WITH CHECK ({VISIBLE})")
    op.execute(f"GRANT {privileges} ON {name} TO {role}")


def reader_policy(name: str, *, reader: str, columns: str) -> None:
    """Let one of the readers (log, due, tenant finder) see all tenants' rows, these columns."""
    op.execute(f"CREATE POLICY {reader} ON {name} FOR SELECT TO {reader} USING (true)")
    op.execute(f"GRANT SELECT ({columns}) ON {name} TO {reader}")


def grant_columns(name: str, *, role: str, columns: str) -> None:
    """Column-level SELECT under the list policy."""
    op.execute(f"GRANT SELECT ({columns}) ON {name} TO {role}")


def consumer_tables(schema: str, *, role: str) -> None:
    """``cursors``, ``parked``, ``blocked`` of a consuming service."""
    op.execute(
        f"CREATE TABLE {schema}.cursors (group_name text NOT NULL, log_id uuid NOT NULL,"
        " partition smallint NOT NULL, position bigint NOT NULL,"
        " PRIMARY KEY (group_name, log_id, partition))"
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {schema}.cursors TO {role}")
    op.execute(
        f"GRANT SELECT (group_name, log_id, partition, position) ON {schema}.cursors"
        " TO subledger_clock_mover"
    )
    op.execute(
        f"CREATE TABLE {schema}.parked (tenant_id uuid NOT NULL, group_name text NOT NULL,"
        " subject uuid NOT NULL, partition smallint NOT NULL, position bigint NOT NULL,"
        " event jsonb NOT NULL, parked_at timestamptz NOT NULL,"
        " PRIMARY KEY (tenant_id, group_name, subject, partition, position))"
    )
    op.execute(
        f"CREATE TABLE {schema}.blocked (tenant_id uuid NOT NULL, group_name text NOT NULL,"
        " subject uuid NOT NULL, error text NOT NULL, blocked_at timestamptz NOT NULL,"
        " PRIMARY KEY (tenant_id, group_name, subject))"
    )
    for table in ("parked", "blocked"):
        tenant_table(f"{schema}.{table}", role=role, privileges="SELECT, INSERT, UPDATE, DELETE")
        grant_columns(
            f"{schema}.{table}",
            role="subledger_clock_mover",
            columns="tenant_id, group_name, subject",
        )


def due_table(schema: str, *, role: str) -> None:
    """``due`` of a service with due moments."""
    name = f"{schema}.due"
    op.execute(
        f"CREATE TABLE {name} (tenant_id uuid NOT NULL, kind text NOT NULL, id uuid NOT NULL,"
        " account_id uuid NOT NULL, due_at timestamptz NOT NULL, rank smallint NOT NULL,"
        " number bigint NOT NULL, announced_at timestamptz, PRIMARY KEY (tenant_id, kind, id))"
    )
    op.execute(f"CREATE INDEX ON {name} (tenant_id, due_at) WHERE announced_at IS NULL")
    op.execute(f"CREATE INDEX ON {name} (announced_at) WHERE announced_at IS NOT NULL")
    op.execute(f"CREATE INDEX ON {name} (tenant_id, account_id, due_at, rank, number, kind, id)")
    op.execute(f"CREATE INDEX ON {name} (tenant_id, due_at, rank, number)")
    tenant_table(name, role=role, privileges="SELECT, INSERT, UPDATE, DELETE")
    columns = "tenant_id, kind, id, due_at, rank, number, announced_at"
    reader_policy(name, reader="subledger_due_reader", columns=columns)
    grant_columns(name, role="subledger_clock_mover", columns=f"{columns}, account_id")


def idempotency_table(schema: str, *, role: str) -> None:
    """``idempotency_keys`` of a service with POST routes."""
    name = f"{schema}.idempotency_keys"
    op.execute(
        f"CREATE TABLE {name} (tenant_id uuid NOT NULL, principal text NOT NULL,"
        " key text NOT NULL, operation text NOT NULL, input_hash bytea NOT NULL,"
        " resource_id uuid NOT NULL, status smallint, created_at timestamptz NOT NULL"
        " DEFAULT clock_timestamp(), PRIMARY KEY (tenant_id, principal, key))"
    )
    op.execute(f"CREATE INDEX ON {name} (tenant_id, created_at)")
    tenant_table(name, role=role, privileges="SELECT, INSERT, UPDATE, DELETE")
