"""A child of the launcher, between its fork and the first line of the runner."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from axon_runner import kernel

_FIRST_FREE = 6
_OUT_OF_THE_WAY = 10
_CAUGHT = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True)
class Start:
    """What Rust wants to have started."""

    id: int
    fork: bool
    name: str
    command: list[str]
    env: dict[str, str] = field(repr=False)
    directory: str
    providers: list[str]

    @classmethod
    def read(cls, record: dict[str, Any]) -> Start:
        """Returns what `record` asks for; it comes from Rust, so a wrong one is a bug."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__})


def flush() -> None:
    """Writes out what is buffered; after a fork the child would write it too, to its outputs."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # an imported package may have closed or replaced it
            stream.flush()


def number_of(error: Exception) -> int:
    """Returns the number by which Rust is told of `error`; never that of success."""
    return (isinstance(error, OSError) and error.errno) or errno.EIO


def become_or_end(start: Start, fds: Sequence[int], launcher: int) -> None:
    """Becomes the process that `start` asks for; one that cannot says so and ends."""
    try:
        become(start, fds, launcher)
    except Exception as error:  # noqa: BLE001 - a child that goes on would be a second launcher
        with suppress(OSError):
            os.write(2, f"cannot set up the runner's process: {error!r}\n".encode())
        os._exit(1)


def become(start: Start, fds: Sequence[int], launcher: int) -> None:
    """Makes this process, which was forked a moment ago, the one that `start` asks for."""
    os.setsid()
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != launcher:
        os.kill(os.getpid(), signal.SIGKILL)
    _take(fds)
    signal.set_wakeup_fd(-1)
    for number in _CAUGHT:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kernel.be_called(f"axon:{start.name}")
    os.environ.clear()
    os.environ.update(start.env)
    time.tzset()
    os.chdir(start.directory)


def execute(start: Start, fds: Sequence[int], launcher: int, report: int) -> NoReturn:
    """Becomes the program that `start` names; an error goes to `report`, as its number."""
    try:
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        become(start, [*fds, report], launcher)
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        report = _FIRST_FREE
        os.set_inheritable(report, False)
        os.execvpe(start.command[0], start.command, start.env)
    except Exception as error:  # noqa: BLE001 - a child that goes on would be a second launcher
        reason = str(number_of(error)).encode()
        # It has moved with the other descriptors, unless something failed before that.
        for fd in (report, _FIRST_FREE):
            with suppress(OSError):
                os.write(fd, reason)
                break
    os._exit(127)


def _take(fds: Sequence[int]) -> None:
    """Moves control, listener, lifeline and both outputs to where a runner has them.

    A sixth descriptor comes right after them; all others are closed.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    # First out of the way: the number of one may be the target of another.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, _OUT_OF_THE_WAY) for fd in (null, *fds)]
    for fd, target in zip(moved, (0, 3, 4, 5, 1, 2, _FIRST_FREE), strict=False):
        os.dup2(fd, target)
    _close_from(_FIRST_FREE + (len(moved) == 7))


def _close_from(first: int) -> None:
    # `os.closerange` tries each number up to the limit where Python was built without close_range.
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= first:
            with suppress(OSError):
                os.close(int(name))


def run() -> NoReturn:
    """Runs the runner in this process, which has everything that it needs."""
    from axon_runner import process

    del sys.argv[1:]
    process.main()
    os._exit(1)
