"""Carries the caller's trace context into the run and out to the tools that Rust runs."""

from __future__ import annotations

from contextvars import ContextVar

from opentelemetry import context, propagate

_traced: ContextVar[bool] = ContextVar("axon_traced", default=False)


def incoming(traceparent: bytes | None) -> None:
    """Makes `traceparent` the parent of every span of the current task."""
    if traceparent is not None:
        carrier = {"traceparent": traceparent.decode("latin-1")}
        context.attach(propagate.extract(carrier))
        _traced.set(True)


def outgoing() -> dict[str, str]:
    """Returns the trace context for a tool request; empty when the run came without one."""
    carrier: dict[str, str] = {}
    if _traced.get():
        propagate.inject(carrier)
    return {key: value for key, value in carrier.items() if key == "traceparent"}
