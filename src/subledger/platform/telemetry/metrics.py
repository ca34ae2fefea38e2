"""What Prometheus can ask of a process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

registry = CollectorRegistry()

requests = Counter(
    "subledger_requests_total",
    "Requests answered.",
    ["method", "route", "status"],
    registry=registry,
)
request_seconds = Histogram(
    "subledger_request_seconds", "Time to answer.", ["route"], registry=registry
)
in_flight = Gauge("subledger_requests_in_flight", "Requests under way.", registry=registry)
step_runs = Counter(
    "subledger_step_runs_total",
    "Runs of a step, by outcome (done, idle, failed).",
    ["step", "outcome"],
    registry=registry,
)
step_seconds = Histogram(
    "subledger_step_seconds", "Time of a step that did something.", ["step"], registry=registry
)
eventlog_lag = Gauge(
    "subledger_eventlog_lag", "Positions beyond a group's cursors.", ["group"], registry=registry
)
provider_calls = Counter(
    "subledger_provider_calls_total",
    "Calls to providers, by outcome.",
    ["provider", "operation", "outcome"],
    registry=registry,
)
provider_seconds = Histogram(
    "subledger_provider_seconds",
    "Time of a call to a provider, without waiting for its turn.",
    ["provider", "operation"],
    registry=registry,
)
oldest_state_seconds = Gauge(
    "subledger_oldest_state_seconds",
    "Age of what has been longest in a state that is not the last one (wall clock).",
    ["kind", "state"],
    registry=registry,
)


def exposition() -> bytes:
    """All metrics in the text format of Prometheus."""
    return generate_latest(registry)
