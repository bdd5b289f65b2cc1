"""Rust tools, for Python tools that want to ask one."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class RustToolRefused(LookupError):
    """The Rust tool did nothing: it was not asked, or a person has to approve it. Says why."""


class Asking:
    """What one call of a Python tool has asked of Rust."""

    def __init__(
        self,
        call_id: str,
        ask: Callable[[str, str, Mapping[str, Any]], Coroutine[Any, Any, Any]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._call_id = call_id
        self._ask = ask
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._numbers = itertools.count(1)
        self._waiting: set[Future[Any]] = set()
        self._over = False

    async def ask(self, name: str, args: Mapping[str, Any]) -> Any:
        """Asks from a coroutine, of whatever event loop."""
        if threading.get_ident() == self._loop_thread:
            return await self._numbered(name, args)
        return await asyncio.wrap_future(self._from_thread(name, args))

    def ask_and_wait(self, name: str, args: Mapping[str, Any]) -> Any:
        """Asks from a thread, and keeps that waiting."""
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError("call_rust_and_wait would stop the event loop: await call_rust")
        return self._from_thread(name, args).result()

    def end(self) -> None:
        """Refuses whatever asks from now on, and releases the threads that wait."""
        self._over = True
        for waiting in list(self._waiting):
            waiting.cancel()

    def _from_thread(self, name: str, args: Mapping[str, Any]) -> Future[Any]:
        future = asyncio.run_coroutine_threadsafe(self._numbered(name, args), self._loop)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        if self._over:
            future.cancel()
        return future

    def _numbered(self, name: str, args: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        if self._over:
            raise RustToolRefused(f"{name} was not asked: the tool call that asks is over")
        # The same in every attempt, as long as the tool asks in the same order.
        return self._ask(f"{self._call_id}/{next(self._numbers)}", name, args)


_asking: ContextVar[Asking] = ContextVar("asking")


@contextmanager
def asked_by(asking: Asking) -> Iterator[None]:
    """Lets the tool that runs meanwhile ask Rust."""
    token = _asking.set(asking)
    try:
        yield
    finally:
        _asking.reset(token)
        asking.end()


async def call_rust(name: str, args: Mapping[str, Any], /) -> Any:
    """Asks Rust to run the tool `name` of this run's agent, and returns its result.

    Raises what the tool decides, which means the same for the tool that asks if it lets it through:
    `ModelRetry` (the model shall try again) and `ToolFailed` (the model is told). Raises
    `RustToolRefused` outside of a run's tool calls, for a tool that the agent does not have or that
    a person has to approve, and for arguments that do not fit its schema.

    The n-th call is the same call in every attempt of the run: what has a result is not done again,
    and is answered from the record.
    """
    return await _current(name).ask(name, args)


def call_rust_and_wait(name: str, args: Mapping[str, Any], /) -> Any:
    """Does what `call_rust` does, for sync tools: their thread waits.

    Raises what `call_rust` raises, and `RuntimeError` where it would stop the event loop.
    """
    return _current(name).ask_and_wait(name, args)


def _current(name: str) -> Asking:
    try:
        return _asking.get()
    except LookupError:
        raise RustToolRefused(f"{name} was not asked: no tool call of a run is under way") from None
