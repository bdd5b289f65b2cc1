"""Serves the inherited socket from ready to the last answered request."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import platform
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from axon_runner import __version__, event_loop, logs, registry, tuning
from axon_runner.app import App
from axon_runner.attempt import Generation
from axon_runner.control import Control
from axon_runner.http import Connection
from axon_runner.launch import PROTOCOL, ConfigError, Launch
from axon_runner.redaction import Redactor
from axon_runner.registry import Registry
from axon_runner.threads import Threads
from axon_runner.user_code import USER_ERRORS

_log = logging.getLogger(__name__)
_CANCEL_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_LIFESPAN_SECONDS = 5.0
# What the kernel lets wait at most, unless it is told otherwise: more connections than that at once
# would be refused while this process is busy.
_BACKLOG = 4096


def run(control: Control, listen_fd: int, launch: Launch, pydantic_ai: str) -> int:
    """Imports what the launch record names, serves until drained, and returns the exit code."""
    redactor = Redactor([launch.token, *launch.env.values()])
    logs.install(control, redactor, launch.log_level)
    callables = registry.load(launch)
    # Not `asyncio.run`: on its way out it waits for threads, and a tool may have left one behind.
    loop = event_loop.new_event_loop()
    asyncio.set_event_loop(loop)
    return _run(loop, _serve(control, listen_fd, launch, callables, redactor, pydantic_ai))


def _run(loop: asyncio.AbstractEventLoop, serve: Coroutine[Any, Any, int]) -> int:
    """Runs `serve` to its end, whatever ends the loop before.

    `SystemExit` and `KeyboardInterrupt` stop a loop when they leave a task or a callback. The
    boundaries catch them where the runner calls user code; this is for the tasks of user code.
    """
    serving = loop.create_task(serve)
    serving.add_done_callback(lambda _: loop.stop())
    while not serving.done():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            if not serving.done():
                _log.exception("a task of user code tried to end the runner")
    return serving.result()


async def _serve(
    control: Control,
    listen_fd: int,
    launch: Launch,
    callables: Registry,
    redactor: Redactor,
    pydantic_ai: str,
) -> int:
    threads = Threads()
    threads.used_by_loop()
    generation = Generation(launch.generation, launch.limits, redactor, threads)
    async with AsyncExitStack() as lifespan:
        for target, entry in callables.find("lifespan"):
            await _enter(lifespan, target, entry.value)
        app = App(launch, callables, generation, pydantic_ai)
        connections: set[Connection] = set()
        service = app.service()
        server = await _listen(lambda: Connection(service, connections), listen_fd)
        terminated = _on_terminate()
        control.send_now(_ready(launch, pydantic_ai))
        await _until_stopped(app, terminated)
        server.close()
        await _close(app, connections)
        await _leave(lifespan)
    return 0


async def _listen(connect: Callable[[], Connection], listen_fd: int) -> asyncio.Server:
    """Serves the inherited socket: a Unix one, or TCP's for callers elsewhere."""
    listener = socket.socket(fileno=listen_fd)
    loop = asyncio.get_running_loop()
    if listener.family == socket.AF_UNIX:
        return await loop.create_unix_server(connect, sock=listener, backlog=_BACKLOG)
    return await loop.create_server(connect, sock=listener, backlog=_BACKLOG)


async def _enter(stack: AsyncExitStack, target: str, lifespan: Any) -> None:
    made = lifespan()
    if inspect.isawaitable(made):
        made = await made
    if hasattr(made, "__aenter__"):
        await stack.enter_async_context(made)
    elif hasattr(made, "__enter__"):
        stack.enter_context(made)
    else:
        raise ConfigError(f"{target} does not give a context manager; a lifespan has to")


async def _leave(stack: AsyncExitStack) -> None:
    """Leaves every lifespan; one that fails is told, and the runner still ends as it was asked."""
    try:
        async with asyncio.timeout(_LIFESPAN_SECONDS):
            await stack.aclose()
    except USER_ERRORS:
        _log.exception("a lifespan could not be left")


def _ready(launch: Launch, pydantic_ai: str) -> dict[str, Any]:
    return {
        "type": "ready",
        "protocol": PROTOCOL,
        "generation": launch.generation,
        "pid": os.getpid(),
        "versions": {
            "python": platform.python_version(),
            "pydantic_ai": pydantic_ai,
            "axon_runner": __version__,
            **tuning.found(),
        },
    }


def _on_terminate() -> asyncio.Event:
    terminated = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminated.set)
    loop.add_signal_handler(signal.SIGINT, terminated.set)
    return terminated


async def _until_stopped(app: App, terminated: asyncio.Event) -> None:
    """Waits for a termination signal, or for the last attempt after a drain."""

    async def drained() -> None:
        await app.drained.wait()
        await app.runs.idle.wait()

    waiting = [
        asyncio.ensure_future(terminated.wait()),
        asyncio.ensure_future(drained()),
    ]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


async def _close(app: App, connections: set[Connection]) -> None:
    app.runs.draining = True
    app.runs.cancel_all()
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            await app.runs.idle.wait()
    except TimeoutError:
        pass
    await asyncio.sleep(0)
    closing = [asyncio.ensure_future(link.closed()) for link in list(connections)]
    if closing:
        await asyncio.wait(closing, timeout=_CLOSE_SECONDS)
