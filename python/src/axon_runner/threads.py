"""The threads in which user code runs, and what still runs there although nobody waits for it.

No thread can be stopped from outside. An attempt that is cancelled ends at once all the same, and
leaves the thread behind; whoever has to know that the run has really stopped asks for `unfinished`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

from pydantic_ai.agent import AbstractAgent

# A stack dump of the interpreter shows a hundred threads, the oldest last: the main thread has to
# be among them. What finds no thread waits for one.
_THREADS = 80
_UNNAMED = "user code"

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf user code runs."""

    run_id: str | None
    over: Callable[[], bool]
    tool: str = _UNNAMED
    direct_call: str | None = None


def told(caller: Caller, seconds: float) -> dict[str, Any]:
    """Returns what `GET /healthz` tells of user code that runs on."""
    entry = {"run_id": caller.run_id, "tool": caller.tool, "seconds": round(seconds, 3)}
    return entry if caller.direct_call is None else {**entry, "tool_call_id": caller.direct_call}


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


@contextmanager
def tool(name: str) -> Iterator[None]:
    """Names the tool of the current caller that runs meanwhile."""
    caller = _caller.get()
    token = _caller.set(None if caller is None else replace(caller, tool=name))
    try:
        yield
    finally:
        _caller.reset(token)


class _Work(Future[_T]):
    """One function in a thread, begun or not."""

    def __init__(self, caller: Caller, call: Callable[[], _T]) -> None:
        super().__init__()
        self.caller = caller
        self.began = time.monotonic()
        self._call: Callable[[], _T] | None = call
        self._abandoned = False

    def cancel(self) -> bool:
        """Abandons what cannot be cancelled any more."""
        cancelled = super().cancel()
        self._abandoned = not cancelled
        return cancelled

    @property
    def deserted(self) -> bool:
        """Says whether nobody waits for it any more."""
        return self._abandoned or self.caller.over()

    def run(self) -> None:
        """Calls the function, in the thread."""
        call, self._call = self._call, None
        assert call is not None, "the pool runs each piece of work once"
        try:
            result = call()
        except StopIteration as error:
            # As it is it would get lost: no asyncio future takes it.
            self.set_exception(RuntimeError(f"{self.caller.tool} raised {error!r}"))
        except BaseException as error:  # noqa: BLE001 - it goes to whoever waits for the result
            self.set_exception(error)
        else:
            self.set_result(result)
        finally:
            # The traceback would keep alive what keeps it alive.
            del self


class Threads(ThreadPoolExecutor):
    """The threads of one runner: those of pydantic-ai, and those of the event loop."""

    def __init__(self) -> None:
        super().__init__(_THREADS, thread_name_prefix="user-code")
        self._lock = threading.Lock()
        self._running: set[_Work[Any]] = set()

    @contextmanager
    def used_by(self, caller: Caller) -> Iterator[None]:
        """Has the sync functions that are called meanwhile run here, on behalf of `caller`."""
        token = _caller.set(caller)
        try:
            with AbstractAgent.using_thread_executor(self):
                yield
        finally:
            _caller.reset(token)

    def used_by_loop(self) -> None:
        """Has `asyncio.to_thread` and the like run here too."""
        asyncio.get_running_loop().set_default_executor(self)

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Runs a function in a thread, and remembers for whom."""
        caller = _caller.get()
        # To look a name up changes nothing, and a slow name server would look like a slow tool.
        if caller is None or fn is socket.getaddrinfo:
            return super().submit(fn, *args, **kwargs)
        work = _Work(caller, lambda: fn(*args, **kwargs))
        super().submit(self._run, work)
        return work

    def unfinished(self) -> list[dict[str, Any]]:
        """Returns what runs although nobody waits for it: for which run, the tool, for how long."""
        now = time.monotonic()
        with self._lock:
            running = list(self._running)
        return [told(work.caller, now - work.began) for work in running if work.deserted]

    def _run(self, work: _Work[Any]) -> None:
        if not work.set_running_or_notify_cancel():
            return
        work.began = time.monotonic()
        with self._lock:
            self._running.add(work)
        try:
            work.run()
        finally:
            with self._lock:
                self._running.discard(work)
