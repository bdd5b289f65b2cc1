"""Finds the processes that descend from this one, and ends them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the kernel lists it; the pid and the time of its start name it for good."""

    pid: int
    parent: int
    session: int
    zombie: bool
    started: int


def listed() -> dict[int, Process]:
    """Returns every process that there is now, by pid."""
    found = (look_up(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process is not None}


def look_up(pid: int) -> Process | None:
    """Returns the process that has this pid now."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name may hold anything, brackets too: the last one ends it.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    state, parent, session, started = fields[0], int(fields[1]), int(fields[3]), int(fields[19])
    return Process(pid, parent, session, state in b"ZX", started)


def below(root: int, processes: dict[int, Process]) -> Iterator[Process]:
    """Yields the living descendants of `root`, parents first."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    waiting = [root]
    while waiting:
        for process in children.get(waiting.pop(), ()):
            waiting.append(process.pid)
            if not process.zombie:
                yield process


def kill(victims: Iterable[Process]) -> int:
    """Kills exactly these processes, and returns how many were still there."""
    return sum(_kill(victim) for victim in victims)


def _kill(victim: Process) -> bool:
    try:
        handle = os.pidfd_open(victim.pid)
    except OSError:
        return False
    try:
        now = look_up(victim.pid)
        # Another process may have got the pid in the meantime.
        if now is None or now.started != victim.started or now.zombie:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def variable(pid: int, name: str) -> str | None:
    """Returns a variable of the environment that the process was started with."""
    prefix = name.encode() + b"="
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None
    return next(
        (
            entry[len(prefix) :].decode(errors="replace")
            for entry in entries
            if entry.startswith(prefix)
        ),
        None,
    )


def has_open(pid: int, file: str) -> bool:
    """Says whether the process has `file` open, named as in `/proc/PID/fd` (`pipe:[123]`)."""
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{name}") == file:
                    return True
    return False


def end_descendants(seconds: float) -> None:
    """Kills every descendant of this process, those too that they start meanwhile."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        left = list(below(os.getpid(), listed()))
        if not left:
            return
        kill(left)
        reap_all()
        time.sleep(0.001)


def reap_all() -> None:
    """Takes the status of every child that has ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
