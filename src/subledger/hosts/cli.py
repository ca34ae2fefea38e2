"""The command line: ``subledger serve``, and what an operator needs beside it."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from subledger.hosts.problems import HostProblem
from subledger.platform import ids, settings
from subledger.platform.http.problems import Problem
from subledger.platform.postgres import PostgresProblem
from subledger.platform.settings import InvalidSettings, Settings
from subledger.platform.telemetry import logs

_SAID_IN_ONE_LINE = (
    HostProblem,
    InvalidSettings,
    PostgresProblem,
    Problem,
    ids.InvalidId,
    DBAPIError,
    OSError,
)
Command = Callable[[Settings, argparse.Namespace], Awaitable[int]]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code. Errors are one clear line, unless
    ``SUBLEDGER_DEBUG`` is set."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["demo"]:
        return _guarded(lambda: _demo(given[1:]))
    parsed = _parser().parse_args(given)
    return _guarded(lambda: _run(parsed))


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        if os.environ.get("SUBLEDGER_DEBUG") or isinstance(error, SystemExit):
            raise
        if not isinstance(error, (*_SAID_IN_ONE_LINE, ValueError)):
            print(
                f"subledger: {type(error).__name__}: {_first_line(error)}"
                " (SUBLEDGER_DEBUG=1 shows where)",
                file=sys.stderr,
            )
            return 1
        print(f"subledger: {_first_line(error)}", file=sys.stderr)
        return 1


def _first_line(error: BaseException) -> str:
    if isinstance(error, InvalidSettings | PostgresProblem):
        return str(error)  # a line for each wrong variable; the log's tail
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    return (str(error) or type(error).__name__).splitlines()[0]


def _run(parsed: argparse.Namespace) -> int:
    changed = {
        name: getattr(parsed, name)
        for name in ("host", "port")
        if getattr(parsed, name, None) is not None
    }
    loaded = settings.load().model_copy(update=changed)
    logs.configure(level=loaded.log_level, console=loaded.log_format == "console")
    command: Command = parsed.command
    return asyncio_run(command(loaded, parsed))


def asyncio_run(work: Awaitable[int]) -> int:
    """Run on uvloop where there is one."""
    assert isinstance(work, Coroutine)
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    code: int = uvloop.run(work)
    return code


# --- commands -----------------------------------------------------------------------------------


async def _serve(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import serve

    await serve.run(loaded, only=parsed.services)
    return 0


async def _worker(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import worker

    await worker.run(loaded, only=parsed.services)
    return 0


async def _migrate(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import running
    from subledger.platform.migrate import migrate

    async with running.place(loaded) as where:
        if where.admin_url is None:
            raise HostProblem("set SUBLEDGER_DATABASE_URL to an administrator's URL to migrate.")
        await migrate(where.admin_url, secret_key=where.secret_key)
    print("The database is at this release.")
    return 0


async def _invariants(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import running
    from subledger.hosts.invariants import violations

    async with (
        running.place(loaded) as where,
        running.assembled(loaded, where, migrated=False) as assembly,
    ):
        found = await violations(assembly)
        checked = sum(len(each.invariants) for each in assembly.running)
    for each in found:
        print(each)
    print(f"{checked} invariants, {len(found)} violations.")
    return 1 if found else 0


async def _doctor(loaded: Settings, parsed: argparse.Namespace) -> int:
    doctor = importlib.import_module("subledger.hosts.doctor")
    code: int = await doctor.run(loaded)
    return code


async def _crashpoints(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import running
    from subledger.hosts.assembly import assemble
    from subledger.platform import crashpoints

    # Building the services declares them; nothing is connected to.
    nowhere = running.Place(admin_url="postgresql+asyncpg://localhost/none", secret_key="none")
    assemble(running.options_of(loaded, nowhere))
    for name in crashpoints.names():
        print(name)
    return 0


async def _tenant_create(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import running

    async with (
        running.place(loaded) as where,
        running.assembled(loaded, where) as assembly,
    ):
        for each in await running.create_tenant(assembly, parsed.name):
            print(f"{each.mode:<8} {ids.text('ten', each.tenant_id)} {each.key}")
    print("The keys are shown this once.")
    return 0


async def _tenant_delete(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import running
    from subledger.platform.db import story
    from subledger.services.identity.usecases.delete_tenant import delete_tenant

    tenant_id = ids.parse("ten", parsed.tenant)
    async with (
        running.place(loaded) as where,
        running.assembled(loaded, where) as assembly,
        assembly.databases["identity"].transaction(story("hosts.delete_tenant")) as tx,
    ):
        deleted = await delete_tenant(tx, tenant_id)
    print(f"Deleted {', '.join(ids.text('ten', each) for each in deleted)}.")
    return 0


async def _kill_switch(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import kill_switch, running

    only = None if parsed.tenant is None else ids.parse("ten", parsed.tenant)
    async with (
        running.place(loaded) as where,
        running.assembled(loaded, where) as assembly,
    ):
        changed = await kill_switch.turn(
            assembly, parsed.job, on=parsed.state == "on", reason=parsed.reason, only=only
        )
    print(f"{parsed.job} {parsed.state}: {changed} tenants changed.")
    return 0


async def _reseal(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import reseal, running

    async with (
        running.place(loaded) as where,
        running.assembled(loaded, where) as assembly,
    ):
        tenants = await reseal.reseal(assembly)
    print(f"The secrets of {tenants} tenants are encrypted with the first key.")
    print(f"Keep the old keys {reseal.RAW_DAYS} days more: webhooks received until now need them.")
    return 0


async def _replay(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import running

    tenant_id = ids.parse("ten", parsed.tenant)
    subject = _subject(parsed.subject)
    async with (
        running.place(loaded) as where,
        running.assembled(loaded, where) as assembly,
    ):
        consumers = {
            each.group.name: each for service in assembly.running for each in service.consumers
        }
        if parsed.group not in consumers:
            raise HostProblem(
                f"there is no group {parsed.group}; there are {', '.join(sorted(consumers))}."
            )
        count = await consumers[parsed.group].replay(tenant_id=tenant_id, subject=subject)
    print(f"{count} parked events of {parsed.subject} were handled.")
    return 0


def _subject(given: str) -> UUID:
    """A customer's account, or the tenant itself."""
    return ids.parse("ten" if given.startswith("ten_") else "cus", given)


async def _new_epoch(loaded: Settings, parsed: argparse.Namespace) -> int:
    from subledger.hosts import running
    from subledger.platform.db import connect
    from subledger.platform.schema import OWNER

    async with running.place(loaded) as where:
        if where.admin_url is None:
            raise HostProblem("set SUBLEDGER_DATABASE_URL to an administrator's URL.")
        engine = connect(where.admin_url, pool_size=1)
        try:
            async with engine.begin() as connection:
                await connection.execute(text(f"SET LOCAL ROLE {OWNER}"))
                epoch = (
                    await connection.execute(
                        text("UPDATE eventlog.log SET epoch = epoch + 1 RETURNING epoch")
                    )
                ).scalar_one()
        finally:
            await engine.dispose()
    print(f"The log is in epoch {epoch}: cursors of feeds from before are refused.")
    return 0


def _demo(arguments: list[str]) -> int:
    demo = importlib.import_module("subledger.hosts.demo")
    code: int = demo.main(arguments)
    return code


# --- the parser ---------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="subledger", description="Subscription billing on one PostgreSQL."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, say: str, to: Any = commands) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = to.add_parser(name, help=say, description=say)
        made.set_defaults(command=command)
        return made

    serve = add("serve", _serve, "Serve HTTP and work; everything unless services are named.")
    serve.add_argument("services", nargs="*", metavar="SERVICE")
    serve.add_argument("--host", help="address to listen on (SUBLEDGER_HOST)")
    serve.add_argument("--port", type=int, help="port to listen on (SUBLEDGER_PORT)")
    worker = add("worker", _worker, "Work without HTTP, beside a serve on the same database.")
    worker.add_argument("services", nargs="*", metavar="SERVICE")
    add("migrate", _migrate, "Bring the database to this release.")
    add("invariants", _invariants, "Print what must never be found; exit 1 if anything is.")
    add("doctor", _doctor, "Say what is configured, reachable and wrong, and how to mend it.")
    commands.add_parser("demo", help="Six months of a cinema, then keep serving (see demo --help).")
    points = add("crashpoints", _crashpoints, "List the places at which CRASH_AT can kill.")
    points.add_argument("--list", action="store_true", help="list them (the default)")
    tenant = commands.add_parser("tenant", help="Create or delete tenants.")
    actions = tenant.add_subparsers(required=True, metavar="ACTION")
    create = add("create", _tenant_create, "Open a live tenant and its sandbox.", actions)
    create.add_argument("name")
    delete = add("delete", _tenant_delete, "Delete a tenant and its sandboxes, softly.", actions)
    delete.add_argument("tenant", metavar="ten_…")
    switch = add("kill-switch", _kill_switch, "Stop a job of all tenants, or let it go on.")
    switch.add_argument("job", choices=("renewals", "collections", "dunning"))
    switch.add_argument("state", choices=("on", "off"))
    switch.add_argument("--reason", required=True, help="kept with the change (500 letters)")
    switch.add_argument("--tenant", metavar="ten_…", help="of this tenant alone")
    add("reseal", _reseal, "Encrypt kept secrets with the first of SUBLEDGER_ENCRYPTION_KEYS.")
    replay = add("replay", _replay, "Handle the parked events of an account, in order.")
    replay.add_argument("group")
    replay.add_argument("tenant", metavar="ten_…")
    replay.add_argument("subject", metavar="cus_…")
    log = commands.add_parser("log", help="The event log.")
    of_log = log.add_subparsers(required=True, metavar="ACTION")
    add("new-epoch", _new_epoch, "After a restore: cursors of feeds from before end.", of_log)
    return parser


if __name__ == "__main__":
    sys.exit(main())
