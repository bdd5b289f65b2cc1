"""The event loop: uvloop where it is installed, which takes less CPU, else asyncio's own."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

KIND = "asyncio" if uvloop is None else f"uvloop {version('uvloop')}"
"""Which event loop the runner uses, for its versions."""

IS_UVLOOP = uvloop is not None
"""Whether it is uvloop."""

_RING = "UV_USE_IO_URING"


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Returns a new event loop, which is nobody's current one yet."""
    if uvloop is None:
        return asyncio.new_event_loop()
    if _RING in os.environ:
        return uvloop.new_event_loop()
    # libuv's ring is polled by a thread of the kernel, which takes more than a runner gains by it.
    os.environ[_RING] = "0"
    try:
        return uvloop.new_event_loop()
    finally:
        del os.environ[_RING]
