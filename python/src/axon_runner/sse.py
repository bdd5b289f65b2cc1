"""One event stream: frames in, as few writes as possible out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_BUFFERED_EVENTS = 256
_BUFFERED_BYTES = 4 * 1024 * 1024
_CROWDED_EVENTS = 4096
_PING = b": ping\n\n"


class EventStream:
    """Numbers events from 1 and joins those of one loop tick into a single write.

    When it has nothing to say it says so every `ping_seconds`, for as long as the loop turns.

    While the reader is slow the frames wait here. The buffer is bounded by its writers: whoever
    emits in a loop awaits `drained` when `full`.
    """

    def __init__(self, on_disconnect: Callable[[], None], ping_seconds: float) -> None:
        self._on_disconnect = on_disconnect
        self._ping_seconds = ping_seconds
        self._write: Callable[[bytes, bool], None] | None = None
        self._frames: list[bytes] = []
        self._bytes = 0
        self._seq = 0
        self._scheduled = False
        self._paused = False
        self._closed = False
        self._connected = True
        self._quiet = True
        self._space: asyncio.Future[None] | None = None
        self._ping: asyncio.TimerHandle | None = None
        self._finished = asyncio.get_running_loop().create_future()

    def attach(self, write: Callable[[bytes, bool], None]) -> None:
        """Gives the stream its connection: `write` takes bytes, and whether they are the last."""
        self._write = write
        self._schedule_ping()
        self._schedule()

    def emit(self, kind: str, data: bytes) -> int:
        """Buffers one event and returns its sequence number; `data` is one line of JSON."""
        self._seq += 1
        if self._connected and not self._closed:
            frame = b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), self._seq, data)
            self._frames.append(frame)
            self._bytes += len(frame)
            self._schedule()
        return self._seq

    @property
    def full(self) -> bool:
        """Says whether the reader is so slow that the writer has to wait."""
        return self._paused and (
            len(self._frames) >= _BUFFERED_EVENTS or self._bytes >= _BUFFERED_BYTES
        )

    @property
    def crowded(self) -> bool:
        """Says whether so much waits that what can be left out has to be, however it came."""
        return len(self._frames) >= _CROWDED_EVENTS or self._bytes >= _BUFFERED_BYTES

    async def drained(self) -> None:
        """Waits until the reader has caught up or gone."""
        if self.full and self._connected:
            self._space = self._space or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._space)

    async def finished(self) -> None:
        """Waits until the stream has ended and everything is handed to the transport."""
        await asyncio.shield(self._finished)

    def close(self) -> None:
        """Ends the stream after the buffered events."""
        self._closed = True
        self._schedule()

    def pause(self) -> None:
        """Stops writing: the transport's buffer is over its high-water mark."""
        self._paused = True

    def resume(self) -> None:
        """Writes again."""
        self._paused = False
        self._flush()

    def disconnected(self) -> None:
        """Drops everything: the reader is gone."""
        self._connected = False
        self._frames.clear()
        self._release()
        if not self._finished.done():
            self._finish()
            if not self._closed:
                self._on_disconnect()

    def _schedule(self) -> None:
        if not self._scheduled and self._write is not None and self._connected:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._write is None or self._paused or not self._connected:
            return
        last = self._closed and not self._finished.done()
        if self._frames or last:
            data = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
            self._frames.clear()
            self._bytes = 0
            self._quiet = False
            if last:
                self._finish()
            self._write(data, last)
        self._release()

    def _release(self) -> None:
        if self._space is not None and not self._space.done():
            self._space.set_result(None)
        self._space = None

    def _finish(self) -> None:
        if self._ping is not None:
            self._ping.cancel()
        self._finished.set_result(None)

    def _schedule_ping(self) -> None:
        self._ping = asyncio.get_running_loop().call_later(self._ping_seconds, self._on_ping)

    def _on_ping(self) -> None:
        if self._quiet and not self._paused and self._write is not None:
            self._write(_PING, False)
        self._quiet = True
        self._schedule_ping()
