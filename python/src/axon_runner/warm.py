"""Makes what a runner needs exist before there is a runner, in the process that it is forked from.

Imports are half of it. The other half is made by the first run: schemas, validators, certificates,
caches. So agents run here, through the runner's own connections, on models that answer at once.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pydantic_ai.models import create_async_httpx2_client, infer_model
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers import infer_provider_class

from axon_runner import http_client, patches, server, warm_replies  # noqa: F401
from axon_runner.rehearsal import ARGUMENTS, OUTPUT, TOOL, rehearse
from axon_runner.user_code import USER_ERRORS, as_text

_log = logging.getLogger(__name__)

# Those whose protocol can be played here; of the others the SDK is imported, and no more.
_PLAYED = frozenset({"openai", "openai-chat", "openai-responses", "anthropic"})
# An SDK asks what platform it is on in a thread.
_THREADS_SECONDS = 2.0
_done: set[str] = set()


def warm(providers: Iterable[str]) -> dict[str, str]:
    """Makes everything exist that a runner with models of `providers` needs.

    What is done is not done again. The process is left as it was but for its memory: one thread,
    no event loop, no open files, the same environment. Returns which providers could not be warmed
    now, and why; the log tells it too.
    """
    failed: dict[str, str] = {}
    asked = [name for name in ("test", *providers) if name not in _done]
    if not asked:
        return failed
    with _environment_kept(), _garbage_kept(), _threads_kept():
        for name in asked:
            _done.add(name)
            try:
                _warm(name)
            except USER_ERRORS as error:  # of any SDK
                reason = f"{type(error).__name__}: {as_text(error)}"
                failed[name] = f"{name} could not be warmed: {reason}"
                # A package that is missing has no bug to look for.
                missing = isinstance(error, ImportError)
                _log.warning("provider %s", failed[name], exc_info=not missing)
    return failed


def _warm(name: str) -> None:
    if name == "test":
        http_client.prepare()
        rehearse(TestModel())
        return
    try:
        provider: Any = infer_provider_class(name)
    except ValueError:
        return  # pydantic-ai does not know it, and says so when an agent asks for it
    if name in _PLAYED:
        client = create_async_httpx2_client(
            transport=warm_replies.transport(TOOL, ARGUMENTS, OUTPUT)
        )
        made = provider(api_key="warm", base_url="http://warm/v1", http_client=client)
        rehearse(infer_model(f"{name}:warm", lambda _: made))
    else:
        with suppress(ImportError):
            importlib.import_module(f"pydantic_ai.models.{provider.__module__.rpartition('.')[2]}")
        patches.apply()


@contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    os.environ["PYDANTIC_AI_NO_BANNER"] = "1"
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collects garbage once, at the end, and never looks again at what is left then."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Waits for the threads that were begun meanwhile, some of which end a little later."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _THREADS_SECONDS
    for thread in set(threading.enumerate()) - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    # Python is done with a thread before the kernel is.
    while _threads() > len(threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.001)


def _threads() -> int:
    with suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 0
