"""The messages that are sent to a live attempt, and how far each has come."""

from __future__ import annotations

from typing import Any

from pydantic_ai.exceptions import UserError
from pydantic_ai.run import AgentRun

from axon_runner.wire import Message


class Steering:
    """Hands messages to the run once each, and tells which of them are recorded.

    pydantic-ai takes a message from its queue when it puts it into the history: `asap` with the
    next model request, `when_idle` when the run would end. Either keeps a run from ending. So what
    is not in the queue any more is in the messages of the next checkpoint.
    """

    def __init__(self) -> None:
        self._run: AgentRun[Any, Any] | None = None
        self._known: set[str] = set()
        self._early: list[Message] = []
        # By message id, in the order in which they came: what is in no checkpoint yet.
        self._queued: dict[str, str | None] = {}
        self._closed = False

    def begin(self, run: AgentRun[Any, Any]) -> None:
        """Hands over what came before there was a run."""
        self._run = run
        for message in self._early:
            self._queued[message.message_id] = _enqueue(run, message)
        self._early.clear()

    def take(self, message: Message) -> bool:
        """Takes a message, once; says whether it is taken, or was before."""
        if self._closed:
            return False
        if message.message_id in self._known:
            return True
        enqueued = None
        if self._run is None:
            self._early.append(message)
        else:
            try:
                enqueued = _enqueue(self._run, message)
            except UserError:  # the run has just ended
                return False
        self._known.add(message.message_id)
        self._queued[message.message_id] = enqueued
        return True

    def delivered(self) -> list[str]:
        """Returns the ids of what has come into the messages since the last time."""
        if self._run is None:
            return []
        waiting = {pending.enqueue_id for pending in self._run.pending_messages}
        delivered = [known for known, queued in self._queued.items() if queued not in waiting]
        for message_id in delivered:
            del self._queued[message_id]
        return delivered

    def close(self) -> list[str]:
        """Takes nothing from now on; returns the ids of what was taken and is in no checkpoint."""
        self._closed = True
        return list(self._queued)


def _enqueue(run: AgentRun[Any, Any], message: Message) -> str | None:
    content = message.content
    items = [content] if isinstance(content, str) else content
    return run.enqueue(*items, priority=message.priority)
