"""Which attempts are live, and which are over: the rules of 404, 409, 410, 429 and 503."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from axon_runner.agents import Plan
from axon_runner.attempt import Attempt, Generation
from axon_runner.drive import drive
from axon_runner.failures import Kind, plain
from axon_runner.memory import ImportedMemory
from axon_runner.sse import EventStream
from axon_runner.trace import Incoming
from axon_runner.wire import RunRequest

_REMEMBERED = 4096


class Refused(Exception):
    """A request that is answered by an error object and not executed."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.status = status
        self.error = error


def refused(status: int, kind: Kind, message: str, *, retryable: bool = False) -> Refused:
    """Returns the refusal that no other exception stands behind."""
    return Refused(status, plain(kind, message, retryable=retryable))


class Runs:
    """The live attempts, one per run, and a bounded memory of the last ones that ended."""

    def __init__(self, generation: Generation, memory: ImportedMemory) -> None:
        self._generation = generation
        self._memory = memory
        self._live: dict[str, Attempt] = {}
        self._over: OrderedDict[str, int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    def __len__(self) -> int:
        return len(self._tasks)

    def admit(self, run_id: str, attempt: int) -> None:
        """Raises `Refused` unless this attempt may start now."""
        if self.draining:
            raise refused(503, "busy", "the runner is draining", retryable=True)
        live = self._live.get(run_id)
        highest = live.request.attempt if live is not None else self._over.get(run_id, 0)
        if attempt <= highest:
            raise refused(
                409, "config", f"attempt {attempt} of run {run_id} is not above attempt {highest}"
            )
        if live is None and len(self._tasks) >= self._generation.limits.attempts:
            raise refused(429, "busy", f"{len(self._tasks)} attempts are running", retryable=True)

    def start(self, request: RunRequest, plan: Plan, deps: Any, incoming: Incoming) -> EventStream:
        """Starts an admitted attempt, cancels a lower one, and returns the stream."""
        lower = self._live.get(request.run_id)
        before = lower.task if lower is not None else None
        if lower is not None:
            lower.cancel()
        attempt = Attempt(request, self._generation, incoming)
        self._live[request.run_id] = attempt

        async def main() -> None:
            incoming.enter()
            await drive(attempt, plan, deps, before)

        task = asyncio.get_running_loop().create_task(main())
        attempt.task = task
        self._tasks.add(task)
        self.idle.clear()
        task.add_done_callback(lambda _: self._ended(attempt))
        return attempt.stream

    def find(self, run_id: str, attempt: int | None = None) -> Attempt:
        """Returns the live attempt of a run; raises `Refused` when it is another or over."""
        live = self._live.get(run_id)
        if live is not None:
            if attempt is not None and attempt != live.request.attempt:
                raise refused(
                    409, "config", f"attempt {attempt} is not live; {live.request.attempt} is"
                )
            return live
        highest = self._over.get(run_id)
        if highest is None:
            raise refused(404, "config", f"run {run_id} is not known to this runner")
        if attempt is not None and attempt < highest:
            raise refused(409, "config", f"attempt {attempt} is stale; {highest} was the last")
        raise refused(410, "config", f"attempt {highest} of run {run_id} is over")

    def unfinished(self) -> list[dict[str, Any]]:
        """Returns the attempts that were cancelled and have not ended."""
        return [
            {"run_id": run_id, "tool": "the attempt", "seconds": round(seconds, 3)}
            for run_id, attempt in self._live.items()
            if (seconds := attempt.lingering) is not None
        ]

    def cancel_all(self) -> None:
        """Cancels every attempt; each says so on its stream."""
        for task in self._tasks:
            task.cancel()

    def _ended(self, attempt: Attempt) -> None:
        run_id = attempt.request.run_id
        if attempt.task is not None:
            self._tasks.discard(attempt.task)
        if self._live.get(run_id) is attempt:
            del self._live[run_id]
        self._over[run_id] = max(attempt.request.attempt, self._over.pop(run_id, 0))
        if len(self._over) > _REMEMBERED:
            self._over.popitem(last=False)
        if not self._tasks:
            self.idle.set()
            self._memory.settle()
