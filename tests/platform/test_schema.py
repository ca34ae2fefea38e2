"""What the catalogue of every migrated database must look like, and proof that this is noticed.

Walks pg_catalog over all schemas of ours: tables, partitions, views. What may differ is listed in
EXCEPTIONS with its reason; an exception that is no longer needed fails the test too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from subledger.platform.migrate import SCHEMAS

EXCEPTIONS = {
    # (rule, object): why
    ("tenant_column", "eventlog.log"): "the log's identity, no tenant data",
    ("tenant_column", "eventlog.heads"): "positions by partition, no tenant data",
    ("tenant_first", "eventlog.events"): "read by partition and position; rows carry their tenant",
}
"""Beside these: ``cursors`` and ``schema_version`` of any schema (positions and versions only), the
partitions of a listed parent, and the sandbox provider, which is an outside system with a journal
of its own."""

_OURS = "n.nspname = ANY ($1::text[])"
_RELATION = "n.nspname || '.' || c.relname"
_TENANT_TABLE = (
    "EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'"
    " AND NOT a.attisdropped)"
)
_COLUMN_OF_TYPE = f"""
SELECT {_RELATION} || '.' || a.attname FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typlen = -1
WHERE {_OURS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
  AND ARRAY[t.oid, t.typbasetype, coalesce(e.oid, 0), coalesce(e.typbasetype, 0)]::oid[]
      && ARRAY[TYPES]::regtype[]::oid[]
"""

RULES = {
    "tenant_column": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND c.relkind IN ('r', 'p', 'f') AND NOT {_TENANT_TABLE}
          AND c.relname NOT IN ('cursors', 'schema_version')""",
    "tenant_nullable": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
        WHERE {_OURS} AND c.relkind IN ('r', 'p') AND NOT a.attnotnull AND NOT a.attisdropped""",
    "forced_rls": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND c.relkind IN ('r', 'p') AND {_TENANT_TABLE}
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity)""",
    "list_policy": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND c.relkind IN ('r', 'p') AND {_TENANT_TABLE} AND NOT c.relispartition
          AND NOT EXISTS (
            SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd = '*'
              AND pg_get_expr(p.polqual, c.oid) LIKE '%app.tenants%'
              AND pg_get_expr(p.polwithcheck, c.oid) LIKE '%app.tenants%')""",
    "open_policy": f"""
        SELECT {_RELATION} || ' ' || p.polname FROM pg_policy p
        JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND pg_get_expr(p.polqual, c.oid) NOT LIKE '%app.tenants%'
          AND (p.polcmd <> 'r' OR p.polroles <@ ARRAY[0]::oid[] OR EXISTS (
            SELECT FROM unnest(p.polroles) AS r(oid) JOIN pg_roles USING (oid)
            WHERE rolname NOT IN ('subledger_log_reader', 'subledger_due_reader',
                                  'subledger_tenant_finder')))""",
    "primary_key": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND c.relkind IN ('r', 'p')
          AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)""",
    "tenant_first": f"""
        SELECT {_RELATION} || ' ' || i.indexrelid::regclass::text
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND {_TENANT_TABLE} AND i.indisunique AND i.indkey[0] IS DISTINCT FROM (
            SELECT a.attnum FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')""",
    "tenant_first_foreign_key": f"""
        SELECT {_RELATION} || ' ' || f.conname
        FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND f.contype = 'f' AND {_TENANT_TABLE} AND NOT (
            f.conkey[1] = (SELECT attnum FROM pg_attribute
                           WHERE attrelid = f.conrelid AND attname = 'tenant_id')
            AND f.confkey[1] = coalesce((SELECT attnum FROM pg_attribute
                           WHERE attrelid = f.confrelid AND attname = 'tenant_id'), 0))""",
    "foreign_key_within_schema": f"""
        SELECT {_RELATION} || ' ' || f.conname
        FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class o ON o.oid = f.confrelid
        WHERE {_OURS} AND f.contype = 'f' AND o.relnamespace <> c.relnamespace""",
    "security_invoker": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND c.relkind = 'v' AND NOT coalesce(
            (SELECT option_value::boolean FROM pg_options_to_table(c.reloptions)
             WHERE option_name = 'security_invoker'), false)""",
    "no_materialized_view": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND c.relkind = 'm'""",
    "nulls_in_unique_index": f"""
        SELECT {_RELATION} || ' ' || i.indexrelid::regclass::text
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND i.indisunique AND NOT i.indnullsnotdistinct AND EXISTS (
            SELECT FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k(attnum)
            LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
            WHERE NOT coalesce(a.attnotnull AND k.attnum > 0, false))""",
    "no_float": _COLUMN_OF_TYPE.replace("TYPES", "'float4', 'float8', 'money'"),
    "time_zone": _COLUMN_OF_TYPE.replace("TYPES", "'timestamp', 'time'"),
    "no_deferrable_constraint": f"""
        SELECT {_RELATION} || ' ' || f.conname
        FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND f.condeferrable""",
    "owner": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND c.relowner <> 'subledger_owner'::regrole""",
    "no_grant_on_partition": f"""
        SELECT {_RELATION} || ' to ' || g.grantee::regrole::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL aclexplode(c.relacl) AS g
        WHERE {_OURS} AND c.relispartition AND c.relkind IN ('r', 'p')
          AND g.grantee <> c.relowner""",
    "no_grant_to_public": f"""
        SELECT {_RELATION} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL aclexplode(c.relacl) AS g WHERE {_OURS} AND g.grantee = 0""",
    "safe_definer": f"""
        SELECT n.nspname || '.' || p.proname
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {_OURS} AND p.prosecdef AND (
            NOT coalesce(p.proconfig::text LIKE '%search_path=pg_catalog%', false)
            OR has_function_privilege('public', p.oid, 'EXECUTE'))""",
}
_OUTSIDE_SYSTEM = {"sandbox"}
_TENANT_RULES = {
    *("tenant_column", "tenant_nullable", "forced_rls", "list_policy", "open_policy"),
    *("tenant_first", "tenant_first_foreign_key"),
}


async def findings(connection: Any) -> set[tuple[str, str]]:
    """Every ``(rule, object)`` that breaks a rule, the listed exceptions included."""
    found = set()
    for rule, query in RULES.items():
        schemas = set(SCHEMAS) - (_OUTSIDE_SYSTEM if rule in _TENANT_RULES else set())
        for row in await connection.fetch(query, sorted(schemas)):
            found.add((rule, await _parent(connection, row[0])))
    return found


async def _parent(connection: Any, described: str) -> str:
    """A partition's finding is its parent's; an index is told with its table."""
    name = described.split(maxsplit=1)[0]
    if name.count(".") == 1:
        parent = await connection.fetchval(
            "SELECT p.oid::regclass::text FROM pg_class c"
            " JOIN pg_class p ON p.oid = pg_partition_root(c.oid) WHERE c.oid = to_regclass($1)"
            " AND c.relispartition",
            name,
        )
        if parent is not None:
            return str(parent)
    return described


def _unlisted(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((rule, what) for rule, what in found if (rule, what.split()[0]) not in EXCEPTIONS)


@pytest.fixture(scope="module")
async def connection(module_database_url: str, admin: Any) -> AsyncIterator[Any]:
    opened = await admin(module_database_url)
    yield opened
    await opened.close()


async def test_the_catalogue_keeps_every_rule(connection: Any) -> None:
    found = await findings(connection)
    assert _unlisted(found) == []
    needed = {(rule, what.split()[0]) for rule, what in found}
    assert set(EXCEPTIONS) - needed == set(), "listed, but no longer needed"


async def test_no_role_of_ours_stands_above_the_policies(connection: Any) -> None:
    rows = await connection.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin, rolinherit FROM pg_roles"
        " WHERE rolname LIKE 'subledger\\_%'"
    )
    assert len(rows) >= 12
    for row in rows:
        assert not row["rolsuper"], row
        assert not row["rolbypassrls"], row
    may_login = {row["rolname"] for row in rows if row["rolcanlogin"]}
    assert may_login == {f"subledger_{name}" for name in SCHEMAS if name != "eventlog"}
    assert not any(row["rolinherit"] for row in rows if row["rolcanlogin"])
    owners = await connection.fetch(
        "SELECT m.member::regrole::text FROM pg_auth_members m"
        " WHERE m.roleid = 'subledger_owner'::regrole AND m.member::regrole::text"
        " LIKE 'subledger\\_%'"
    )
    assert owners == []


_GOOD = (
    "CREATE TABLE billing.bad (tenant_id uuid NOT NULL, id uuid NOT NULL, n int, PRIMARY KEY"
    " (tenant_id, id)); ALTER TABLE billing.bad OWNER TO subledger_owner;"
    " ALTER TABLE billing.bad ENABLE ROW LEVEL SECURITY;"
    " ALTER TABLE billing.bad FORCE ROW LEVEL SECURITY;"
    " CREATE POLICY tenants ON billing.bad USING (tenant_id = ANY ((SELECT string_to_array("
    "nullif(current_setting('app.tenants', true), ''), ',')::uuid[])::uuid[])) WITH CHECK"
    " (tenant_id = ANY ((SELECT string_to_array("
    "nullif(current_setting('app.tenants', true), ''), ',')::uuid[])::uuid[]));"
)
BAD = [
    ("tenant_column", "CREATE TABLE billing.bad2 (id uuid PRIMARY KEY)"),
    (
        "tenant_nullable",
        "ALTER TABLE billing.bad DROP CONSTRAINT bad_pkey;"
        " ALTER TABLE billing.bad ALTER tenant_id DROP NOT NULL",
    ),
    ("forced_rls", "ALTER TABLE billing.bad NO FORCE ROW LEVEL SECURITY"),
    ("forced_rls", "ALTER TABLE billing.bad DISABLE ROW LEVEL SECURITY"),
    ("forced_rls", "ALTER TABLE eventlog.events_p3_s0 NO FORCE ROW LEVEL SECURITY"),
    ("forced_rls", "ALTER TABLE eventlog.events_p3 DISABLE ROW LEVEL SECURITY"),
    ("list_policy", "DROP POLICY tenants ON billing.bad"),
    (
        "list_policy",
        "DROP POLICY tenants ON billing.bad; CREATE POLICY tenants ON billing.bad USING (true)",
    ),
    ("open_policy", "CREATE POLICY open ON billing.bad USING (true)"),
    (
        "open_policy",
        "CREATE POLICY open ON billing.bad FOR SELECT TO subledger_billing USING (true)",
    ),
    (
        "open_policy",
        "CREATE POLICY open ON billing.bad FOR UPDATE TO subledger_due_reader USING (true)",
    ),
    ("primary_key", "ALTER TABLE billing.bad DROP CONSTRAINT bad_pkey"),
    ("tenant_first", "CREATE UNIQUE INDEX ON billing.bad (id)"),
    ("tenant_first", "CREATE UNIQUE INDEX ON billing.bad (id, tenant_id)"),
    (
        "tenant_first",
        "ALTER TABLE billing.bad DROP CONSTRAINT bad_pkey, ADD PRIMARY KEY (id, tenant_id)",
    ),
    (
        "tenant_first_foreign_key",
        "CREATE TABLE billing.bad2 (id uuid PRIMARY KEY);"
        " ALTER TABLE billing.bad ADD FOREIGN KEY (id) REFERENCES billing.bad2",
    ),
    (
        "tenant_first_foreign_key",
        "ALTER TABLE billing.bad ADD UNIQUE (id, tenant_id),"
        " ADD FOREIGN KEY (id, tenant_id) REFERENCES billing.bad (id, tenant_id)",
    ),
    (
        "foreign_key_within_schema",
        "ALTER TABLE billing.bad ADD FOREIGN KEY (tenant_id) REFERENCES identity.tenants",
    ),
    ("security_invoker", "CREATE VIEW billing.bad_view AS SELECT * FROM billing.bad"),
    (
        "security_invoker",
        "CREATE VIEW billing.bad_view WITH (security_invoker = off) AS SELECT * FROM billing.bad",
    ),
    ("no_materialized_view", "CREATE MATERIALIZED VIEW billing.bad_view AS TABLE billing.bad"),
    ("nulls_in_unique_index", "CREATE UNIQUE INDEX ON billing.bad (tenant_id, n)"),
    ("nulls_in_unique_index", "CREATE UNIQUE INDEX ON billing.bad (tenant_id, (n + 1))"),
    ("no_float", "ALTER TABLE billing.bad ADD f real"),
    ("no_float", "ALTER TABLE billing.bad ADD f double precision[]"),
    ("no_float", "CREATE DOMAIN billing.d AS float8; ALTER TABLE billing.bad ADD f billing.d"),
    (
        "no_float",
        "CREATE VIEW billing.bad_view WITH (security_invoker) AS SELECT n::float8 FROM billing.bad",
    ),
    ("time_zone", "ALTER TABLE billing.bad ADD t timestamp"),
    ("time_zone", "ALTER TABLE billing.bad ADD t timestamp[]"),
    (
        "no_deferrable_constraint",
        "ALTER TABLE billing.bad ADD UNIQUE (tenant_id, id) DEFERRABLE",
    ),
    (
        "no_deferrable_constraint",
        "CREATE FUNCTION billing.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE CONSTRAINT TRIGGER late AFTER INSERT ON billing.bad DEFERRABLE FOR EACH ROW"
        " EXECUTE FUNCTION billing.f()",
    ),
    ("owner", "ALTER TABLE billing.bad OWNER TO postgres"),
    ("no_grant_on_partition", "GRANT SELECT ON eventlog.events_p3_s0 TO subledger_billing"),
    ("no_grant_to_public", "GRANT SELECT ON billing.bad TO PUBLIC"),
    (
        "safe_definer",
        "CREATE FUNCTION billing.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    ),
]


@pytest.mark.parametrize(("rule", "ddl"), BAD, ids=lambda value: str(value)[:60])
async def test_each_bad_object_is_noticed(connection: Any, rule: str, ddl: str) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(_GOOD)
        assert _unlisted(await findings(connection)) == []
        await connection.execute(ddl)
        assert rule in {broken for broken, _ in _unlisted(await findings(connection))}
    finally:
        await transaction.rollback()


def test_every_rule_is_seen_to_bite() -> None:
    assert {rule for rule, _ in BAD} == set(RULES)
