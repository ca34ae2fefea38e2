"""Running the demo: a whole installation in this process, the cinema's six months, the summary."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import time
from datetime import timedelta
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from subledger.hosts.assembly import SANDBOX_AT, Assembly
from subledger.hosts.demo import script, summary
from subledger.hosts.demo.business import Cinema
from subledger.hosts.demo.course import six_months
from subledger.hosts.demo.script import Viewer
from subledger.hosts.demo.summary import Figures
from subledger.hosts.demo.troubles import Troubles
from subledger.hosts.invariants import violations
from subledger.hosts.problems import HostProblem
from subledger.hosts.running import assembled, interruptible, place
from subledger.hosts.serve import listening, serving
from subledger.platform.db import sql, story
from subledger.platform.settings import Settings, load
from subledger.platform.telemetry import logs
from subledger.services.identity.usecases.create_tenants import (
    Opened,
    TenantRequest,
    create_tenants,
)

_OPEN = story("demo.open_tenant")
_COUNT = story("demo.count_events")
_EVENTS = sql("SELECT count(*) AS n FROM eventlog.events WHERE tenant_id = :tenant")
_PORTS_TRIED = 50


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="subledger demo", description="An online cinema does six months of business."
    )
    parser.add_argument("--seed", type=int, default=1, help="repeats a run: same figures")
    parser.add_argument("--once", action="store_true", help="end after the summary")
    parser.add_argument("--json", action="store_true", help="the summary as JSON, last line")
    parser.add_argument("--port", type=int, help="where to serve (default: 8080 or the next free)")
    return parser.parse_args(given)


async def run(given: list[str]) -> int:
    """The whole demo. Returns 0 if the books balance and no invariant is violated."""
    asked = arguments(given)
    began = float(os.environ.get("SUBLEDGER_STARTED_AT", "") or time.time())
    loaded = load()
    settings = loaded.model_copy(update={"port": asked.port or _free_port(loaded)})
    logs.configure(level="error", console=True)
    console = Console(stderr=asked.json)
    console.print("[bold]Subledger[/] sells an online cinema.", highlight=False)
    with listening(settings) as listener:
        async with (
            interruptible() as stop,
            place(settings) as where,
            assembled(settings, where) as assembly,
            serving(assembly, listener),
        ):
            show = asyncio.create_task(_show(assembly, settings, asked, console, began))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({show, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not show.done():
                show.cancel()
                await asyncio.gather(show, return_exceptions=True)
                console.print("Interrupted; what was done stays, and is consistent.")
                return 130
            code = show.result()
            if not asked.once:
                console.print("Serving; Ctrl-C ends it.")
                await stopped
            stopped.cancel()
            return code


def _free_port(settings: Settings) -> int:
    """The configured port, or the next one that is free: a second demo runs beside the first."""
    for port in range(settings.port, min(settings.port + _PORTS_TRIED, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError:
                continue
            return port
    raise HostProblem(f"ports {settings.port} and the {_PORTS_TRIED} after it are taken.")


async def _show(
    assembly: Assembly,
    settings: Settings,
    asked: argparse.Namespace,
    console: Console,
    began: float,
) -> int:
    tenant = await _open_tenant(assembly, asked.seed)
    viewers = script.viewers(asked.seed, script.bundles(script.films()))
    first_paid: list[float] = []
    key, _ = assembly.sandbox.credentials(tenant.tenant_id)
    async with (
        _client(settings.base_url, tenant.key) as api,
        _client(f"{settings.base_url}{SANDBOX_AT}", key) as provider,
    ):
        cinema = Cinema(api)
        troubles = Troubles(cinema, provider, viewers)
        with Progress(
            TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=console, transient=False,
        ) as bars:  # fmt: skip
            await _business(
                cinema, viewers, troubles, bars,
                lambda: first_paid.append(time.time() - began),
            )  # fmt: skip
        figures = await summary.collect(cinema)
        await _complete(figures, assembly, tenant, troubles)
        figures.seconds = round(time.time() - began, 2)
        figures.first_paid_invoice_s = round(first_paid[0], 2)
        explained, statement = await _samples(cinema, viewers)
    base = settings.base_url
    summary.show(
        console, figures, explained=explained, statement=statement, seen=troubles.seen,
        urls={
            "API reference": f"{base}/docs",
            "health": f"{base}/readyz",
            "metrics": f"{base}/metrics",
            "an access check": f"{base}/v1/access/{viewers[0].external_id}/{_film(viewers[0])}",
            "the demo's key": tenant.key,
        },
    )  # fmt: skip
    if asked.json:
        print(json.dumps(figures.data(), sort_keys=True), flush=True)
    balanced = not any(figures.trial_balance_minor.values())
    return 0 if balanced and figures.invariant_violations == 0 else 1


def _client(base_url: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=60,
        headers={"Authorization": f"Bearer {key}"},
        limits=httpx.Limits(max_connections=32),
    )


async def _business(
    cinema: Cinema, viewers: list[Viewer], troubles: Troubles, bars: Progress, first_paid: Any
) -> None:
    offered = script.bundles(script.films())
    await cinema.open(offered)
    tasks = {
        "customers": bars.add_task("customers buy", total=len(viewers)),
        "months": bars.add_task("months pass", total=script.MONTHS),
    }
    await six_months(
        cinema, viewers, troubles,
        lambda what, done, total: bars.update(tasks[what], completed=done, total=total),
        first_paid,
    )  # fmt: skip


async def _open_tenant(assembly: Assembly, seed: int) -> Opened:
    """A sandbox tenant for this run alone, so that old data do not mix with it."""
    database = assembly.databases["identity"]
    live, sandbox = database.ids.new(), database.ids.new()
    async with database.transaction(_OPEN) as tx:
        opened = await create_tenants(
            tx,
            [
                TenantRequest(tenant_id=live, name="Cinema"),
                TenantRequest(
                    tenant_id=sandbox, name=f"Cinema, seed {seed}", live_tenant_id=live,
                    clock_at=script.START,
                ),
            ],
        )  # fmt: skip
    return opened[1]


async def _complete(
    figures: Figures, assembly: Assembly, tenant: Opened, troubles: Troubles
) -> None:
    """What the API does not tell: the provider's own journal, the events, the invariants."""
    journal, seen = await troubles.judge(), troubles.seen
    figures.provider_captured_minor = dict(sorted(journal["captured_minor"].items()))
    figures.doubles = journal["doubles"]
    figures.secure_payments = len(seen.secure)
    figures.outage_payments, figures.outage_waited = seen.due, seen.waited
    figures.outage_unknown, figures.outage_recovered = seen.unknown, seen.recovered
    async with assembly.databases["billing"].transaction(_COUNT, tenants=[tenant.tenant_id]) as tx:
        figures.events = (await tx.rows(_EVENTS, tenant=tenant.tenant_id))[0].n
    found = await violations(assembly, tenants=[tenant.tenant_id])
    figures.invariant_violations = len(found)


async def _samples(cinema: Cinema, viewers: list[Viewer]) -> tuple[str, Any]:
    """An invoice with a discount, explained, and the statement of a customer with trouble."""
    discounted = next(each for each in viewers if each.discount and not each.by_page)
    page = await cinema.get("/v1/invoices", customer_id=cinema.customers[discounted.number])
    invoice = min(page["data"], key=lambda row: row["number"])
    answer = await cinema.api.get(
        f"/v1/invoices/{invoice['id']}/explain", params={"format": "text", "locale": "en"}
    )
    troubled = next(
        (
            each
            for each in viewers
            if (each.trouble or "").startswith("insufficient") and not each.leaves
        ),
        viewers[0],
    )
    statement = await cinema.get(
        f"/v1/customers/{cinema.customers[troubled.number]}/statement",
        **{
            "from": script.START.isoformat(),
            "to": (script.START + timedelta(days=400)).isoformat(),
        },
    )
    return answer.text, statement


def _film(viewer: Viewer) -> str:
    return script.film_of(viewer).replace(":", "%3A")
