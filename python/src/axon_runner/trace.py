"""Where in which trace a run stands: what its caller says, and what its tools and models are told.

Spans are Rust's to tell. The runner only says which one is under way, so that what is asked of
others, and spans that users' own instrumentation makes, are parts of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry import context, propagate, trace

_traced: ContextVar[bool] = ContextVar("axon_traced", default=False)


@dataclass(frozen=True, slots=True)
class Incoming:
    """What the head of a request says of the trace that it is a part of."""

    traceparent: str | None
    content: bool
    """Whether what models are asked and answer is wanted."""

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes]) -> Incoming:
        """Reads the headers."""
        traceparent = headers.get(b"traceparent")
        text = None if traceparent is None else traceparent.decode("latin-1")
        return cls(text, headers.get(b"axon-trace-content") == b"true")

    def enter(self) -> None:
        """Makes the caller's span the parent of every span of the current task."""
        if self.traceparent is not None:
            context.attach(propagate.extract({"traceparent": self.traceparent}))
            _traced.set(True)


@contextmanager
def span() -> Iterator[str | None]:
    """Has a new span under way; gives its identity, or None where the trace is not told."""
    parent = trace.get_current_span().get_span_context()
    if not _traced.get() or not parent.is_valid or not parent.trace_flags.sampled:
        yield None
        return
    own = int.from_bytes(secrets.token_bytes(8)) or 1
    here = trace.SpanContext(parent.trace_id, own, is_remote=False, trace_flags=parent.trace_flags)
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(here)))
    try:
        yield trace.format_span_id(own)
    finally:
        context.detach(token)


def outgoing() -> dict[str, str]:
    """Returns the trace context for others; empty when the run came without one."""
    carrier: dict[str, str] = {}
    if _traced.get():
        propagate.inject(carrier)
    return {key: value for key, value in carrier.items() if key == "traceparent"}
