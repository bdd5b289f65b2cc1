"""One event stream, without a process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from axon_runner.sse import EventStream


def run(test: Coroutine[Any, Any, None]) -> None:
    """Runs `test` under a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(bounded())


class Wire:
    """What a stream writes, and how it ends."""

    def __init__(self, ping_seconds: float = 60) -> None:
        self.writes: list[bytes] = []
        self.ended = False
        self.hung_up = False
        self.written = asyncio.Event()
        self.stream = EventStream(self.disconnected, ping_seconds)
        self.stream.attach(self.write)

    def write(self, data: bytes, last: bool) -> None:
        self.writes.append(data)
        self.ended = self.ended or last
        self.written.set()

    def disconnected(self) -> None:
        self.hung_up = True


def test_events_of_one_tick_are_one_write_and_the_last_ends_it() -> None:
    async def test() -> None:
        wire = Wire()
        assert [wire.stream.emit("a", b"1"), wire.stream.emit("b", b"2")] == [1, 2]
        wire.stream.close()
        await wire.stream.finished()
        frames = b"event: a\nid: 1\ndata: 1\n\nevent: b\nid: 2\ndata: 2\n\n"
        assert (wire.writes, wire.ended) == ([frames], True)

    run(test())


def test_quiet_stream_pings() -> None:
    async def test() -> None:
        wire = Wire(ping_seconds=0.001)
        await wire.written.wait()
        assert wire.writes == [b": ping\n\n"]
        wire.stream.disconnected()

    run(test())


def test_slow_reader_makes_the_writer_wait_until_it_has_caught_up() -> None:
    async def test() -> None:
        wire = Wire()
        wire.stream.pause()
        while not wire.stream.full:
            wire.stream.emit("a", b"1")
        waiting = asyncio.ensure_future(wire.stream.drained())
        await asyncio.sleep(0)
        assert (waiting.done(), wire.writes) == (False, [])
        wire.stream.resume()
        await waiting
        assert len(wire.writes) == 1
        wire.stream.disconnected()

    run(test())


def test_reader_that_is_gone_holds_nobody_up() -> None:
    async def test() -> None:
        wire = Wire()
        wire.stream.pause()
        while not wire.stream.full:
            wire.stream.emit("a", b"1")
        waiting = asyncio.ensure_future(wire.stream.drained())
        await asyncio.sleep(0)
        wire.stream.disconnected()
        await waiting
        await wire.stream.drained()
        assert wire.hung_up
        assert wire.stream.emit("a", b"1") > 1
        assert wire.writes == []

    run(test())
