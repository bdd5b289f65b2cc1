"""The tool call that is under way, for tools that want to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class CurrentCall:
    """One call of a tool."""

    run_id: str
    step: int
    """The index of the model response that asked for the call among the run's messages."""
    tool_call_id: str
    attempt: int
    """The attempt of the run that makes the call; the only field that a repetition changes."""

    @property
    def idempotency_key(self) -> str:
        """The same whenever this call is made, and no other call's.

        Give it to whatever the tool writes to, so that the call takes effect once.
        """
        return f"{self.run_id}:{self.step}:{self.tool_call_id}"


_current: ContextVar[CurrentCall] = ContextVar("current_call")


def current_call() -> CurrentCall:
    """Returns the tool call that is under way, in sync tools and async ones.

    Raises `LookupError` outside of any.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError("no tool call is under way: only Axon's tools have one") from None


@contextmanager
def under_way(call: CurrentCall) -> Iterator[None]:
    """Makes `call` the current one meanwhile."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)
