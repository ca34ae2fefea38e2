"""The event log: its identity, heads, events, and the function that makes segments ahead."""

from __future__ import annotations

from alembic import op

from subledger.platform.schema import reader_policy, run, tenant_table

revision = "eventlog_0001"
down_revision = None
branch_labels = None
depends_on = None

_SERVICES = (
    "subledger_identity, subledger_billing, subledger_payments, subledger_webhooks, "
    "subledger_scheduler, subledger_entitlements"
)


_SCHEMA = """
CREATE TABLE eventlog.log (
    one smallint PRIMARY KEY CHECK (one = 1),
    id uuid NOT NULL,
    epoch integer NOT NULL,
    partitions smallint NOT NULL
)
;;
INSERT INTO eventlog.log VALUES (1, gen_random_uuid(), 1, 16)
;;
CREATE TABLE eventlog.heads (
    partition smallint PRIMARY KEY,
    position bigint NOT NULL
) WITH (fillfactor = 20)
;;
INSERT INTO eventlog.heads SELECT p, 0 FROM generate_series(0, 15) AS p
;;
CREATE TABLE eventlog.events (
    partition smallint NOT NULL,
    position bigint NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL,
    version smallint NOT NULL,
    tenant_id uuid NOT NULL,
    subject uuid NOT NULL,
    data jsonb NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    cause uuid,
    PRIMARY KEY (partition, position)
) PARTITION BY LIST (partition)
;;
CREATE INDEX events_of_subject ON eventlog.events (tenant_id, subject, position)
;;
CREATE FUNCTION eventlog.create_segments(segment bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    p smallint; head bigint; n bigint; made integer := 0; parent text; child text;
BEGIN
    PERFORM pg_advisory_xact_lock(7326411903);
    FOR p, head IN SELECT h.partition, h.position FROM eventlog.heads h ORDER BY 1 LOOP
        parent := format('events_p%s', p);
        IF to_regclass('eventlog.' || parent) IS NULL THEN
            EXECUTE format('CREATE TABLE eventlog.%I PARTITION OF eventlog.events'
                ' FOR VALUES IN (%s) PARTITION BY RANGE (position)', parent, p);
            EXECUTE format('ALTER TABLE eventlog.%I ENABLE ROW LEVEL SECURITY', parent);
            EXECUTE format('ALTER TABLE eventlog.%I FORCE ROW LEVEL SECURITY', parent);
        END IF;
        FOR n IN SELECT generate_series(head / segment, head / segment + 1) LOOP
            child := format('%s_s%s', parent, n);
            IF to_regclass('eventlog.' || child) IS NULL THEN
                EXECUTE format('CREATE TABLE eventlog.%I PARTITION OF eventlog.%I'
                    ' FOR VALUES FROM (%s) TO (%s)', child, parent,
                    n * segment, (n + 1) * segment);
                EXECUTE format('ALTER TABLE eventlog.%I ENABLE ROW LEVEL SECURITY', child);
                EXECUTE format('ALTER TABLE eventlog.%I FORCE ROW LEVEL SECURITY', child);
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END $$
;;
REVOKE ALL ON FUNCTION eventlog.create_segments(bigint) FROM PUBLIC
;;
SELECT eventlog.create_segments(1000000)
"""


def upgrade() -> None:
    run(_SCHEMA)
    tenant_table("eventlog.events", role=_SERVICES, privileges="SELECT, INSERT")
    reader_policy(
        "eventlog.events",
        reader="subledger_log_reader",
        columns="partition, position, id, type, version, tenant_id, subject, data, occurred_at,"
        " recorded_at, cause",
    )
    op.execute(
        "GRANT SELECT (partition, position, type, tenant_id) ON eventlog.events"
        " TO subledger_clock_mover"
    )
    op.execute(
        f"GRANT USAGE ON SCHEMA eventlog TO {_SERVICES}, subledger_log_reader,"
        " subledger_clock_mover"
    )
    op.execute(f"GRANT SELECT, UPDATE ON eventlog.heads TO {_SERVICES}")
    op.execute(f"GRANT SELECT ON eventlog.log TO {_SERVICES}, subledger_clock_mover")
    op.execute("GRANT SELECT ON eventlog.heads TO subledger_clock_mover")
    op.execute("GRANT EXECUTE ON FUNCTION eventlog.create_segments(bigint) TO subledger_scheduler")
