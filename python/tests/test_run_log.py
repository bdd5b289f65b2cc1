"""Log records of a run: none makes the code that logs wait, and none is lost in silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from axon_runner.run_log import RunLog
from axon_runner.sse import EventStream
from harness import Json, Runner
from support import call, python, request, spec, text

RECORD: Json = {"level": "info", "logger": "x", "message": "x" * 1000, "fields": {}}


@pytest.mark.parametrize("name", ["floods", "floods_from_a_thread"])
def test_every_record_is_sent_or_counted(shared: Runner, name: str) -> None:
    script = [call(name, {"lines": 30_000}), text()]
    stream = shared.start(request(script, spec(python(name)), stream=False, timeout=60))
    done = stream.finish()

    records = [event.data for event in stream.all("log")]
    lines = [r for r in records if r["message"].startswith("line")]
    dropped = [r["fields"]["dropped"] for r in records if r["level"] == "warn"]
    assert done.kind == "attempt_completed"
    assert len(lines) + sum(dropped) == 30_000
    assert [line["message"].split()[1] for line in lines] == sorted(
        (line["message"].split()[1] for line in lines), key=int
    )
    if name == "floods":
        assert len(dropped) == 1
        assert len(lines) < 10_000


def test_few_records_are_all_sent(shared: Runner) -> None:
    script = [call("floods", {"lines": 2000}), text()]
    stream = shared.start(request(script, spec(python("floods"))))
    stream.finish()

    assert len(stream.all("log")) == 2000


@pytest.mark.parametrize("in_a_thread", [False, True])
def test_what_waits_for_a_slow_reader_is_bounded(in_a_thread: bool) -> None:
    async def test() -> list[bytes]:
        said: list[bytes] = []
        stream = EventStream(lambda: None, 15)

        def emit(kind: str, data: bytes) -> int:
            said.append(data)
            return stream.emit(kind, data)

        log = RunLog(stream, emit)

        def flood() -> None:
            for _ in range(20_000):
                log.add(RECORD)

        await _call(flood, in_a_thread)
        log.finish()
        stream.disconnected()
        return said

    said = asyncio.run(test())
    last = json.loads(said[-1])

    assert sum(map(len, said)) < 10 * 1024 * 1024
    assert last["level"] == "warn"
    assert last["fields"] == {"dropped": 20_000 - len(said) + 1}


async def _call(function: Callable[[], None], in_a_thread: bool) -> None:
    if in_a_thread:
        await asyncio.to_thread(function)
    else:
        function()
