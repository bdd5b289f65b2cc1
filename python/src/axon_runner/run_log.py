"""The log records of one attempt, on their way to its stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from axon_runner.encode import EventTooLarge, encode, loosely
from axon_runner.sse import EventStream

_WAITING_RECORDS = 4096
_WAITING_BYTES = 4 * 1024 * 1024


class RunLog:
    """Takes records from any thread and never makes the code that logs wait.

    Records wait for the event loop, and then in the stream for its reader. Both are bounded: what
    comes faster than it is read is dropped, and counted.
    """

    def __init__(self, stream: EventStream, emit: Callable[[str, bytes], int]) -> None:
        self._stream = stream
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        # Reentrant: a finaliser may log while this thread holds it.
        self._lock = threading.RLock()
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._dropped = 0

    def add(self, record: dict[str, Any]) -> None:
        """Sends `record`, or drops it; raises `EncodeError` for one that cannot be told."""
        data = loosely(record)
        if threading.get_ident() == self._thread:
            self._take()
            self._say(data)
            return
        with self._lock:
            if len(self._waiting) >= _WAITING_RECORDS or self._bytes >= _WAITING_BYTES:
                self._dropped += 1
                return
            self._waiting.append(data)
            self._bytes += len(data)
            first = len(self._waiting) == 1
        if first:
            self._loop.call_soon_threadsafe(self._take)

    def finish(self) -> None:
        """Sends what waits, and says how many records were dropped, if any were."""
        self._take()
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            record = {
                "level": "warn",
                "logger": __name__,
                "message": f"{dropped} log records of this attempt came too fast and were dropped",
                "fields": {"dropped": dropped},
                "dropped_before": dropped,
            }
            self._emit("log", encode(record))

    def _take(self) -> None:
        with self._lock:
            waiting, self._waiting, self._bytes = self._waiting, [], 0
        for data in waiting:
            self._say(data)

    def _say(self, data: bytes) -> None:
        try:
            if not self._stream.crowded:
                self._emit("log", data)
                return
        except EventTooLarge:
            pass
        with self._lock:
            self._dropped += 1
