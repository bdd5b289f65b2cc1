"""A runner and its children die with its parent, however it went."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness import DEADLINE, Runner, Stream
from support import CALLABLES, call, python, request, spec, text


def gone(pid: int) -> bool:
    """Waits until a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], DEADLINE)[0])
    finally:
        os.close(handle)


def child_of(runner: Runner) -> int:
    """Makes a tool start a child process."""
    answer = runner.post("/v1/tools/tools:spawns/call", {})
    pid: int = answer.body["result"]
    return pid


def descriptors(pid: int) -> Iterator[str]:
    """What a process has open; the loader's files come and go while it starts."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield os.readlink(fd)


def test_runner_and_its_child_die_when_the_parent_is_gone() -> None:
    with Runner(callables=CALLABLES) as runner:
        child = child_of(runner)
        runner.cut_lifeline()

        assert runner.process.wait(DEADLINE) == -9
        assert gone(child)


def test_runner_dies_while_c_code_holds_the_gil(tmp_path: Path) -> None:
    fifo = tmp_path / "child"
    os.mkfifo(fifo)
    with Runner(callables=CALLABLES) as runner:
        script = [call("holds_the_gil", {"path": str(fifo)}), text()]
        stream: Stream = runner.start(request(script, spec(python("holds_the_gil"))))
        stream.until("tool_started")
        child = int(fifo.read_text())
        runner.cut_lifeline()

        assert runner.process.wait(DEADLINE) == -9
        assert gone(child)


def test_runner_whose_parent_is_gone_before_it_starts_dies_at_once() -> None:
    runner = Runner(callables=CALLABLES)
    try:
        runner.cut_lifeline()
        assert runner.process.wait(DEADLINE) == -9
        with pytest.raises((EOFError, ConnectionResetError)):
            runner.record()
    finally:
        runner.stop()


def test_child_inherits_none_of_the_runners_descriptors() -> None:
    with Runner(callables=CALLABLES) as runner:
        links = list(descriptors(child_of(runner)))

        assert len(links) >= 3
        assert not [link for link in links if link.startswith(("socket:", "pipe:", "anon_inode:"))]
