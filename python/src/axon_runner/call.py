"""The tool call that is under way, for tools that want to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


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


def run_state() -> dict[str, Any]:
    """Returns the state that the run carries. What a tool changes in it is recorded with what the
    tool returns, and comes back to the caller with the run's outcome; its top level is an object.

    Raises `LookupError` outside of any run.
    """
    from axon_runner.attempt import current_attempt

    try:
        return current_attempt.get().state.live
    except LookupError:
        raise LookupError("no run is under way: only runs of Axon carry a state") from None


@contextmanager
def under_way(call: CurrentCall) -> Iterator[None]:
    """Makes `call` the current one meanwhile."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)
