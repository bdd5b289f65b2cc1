"""Work that is done in a child first, because it might not end, or end the process."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from axon_runner import kernel, offspring, processes

_WENT_WELL = b"+"
_REASON_BYTES = 1000


def run(work: Callable[[], str], deadline: float) -> str:
    """Does `work` in a child, and returns why it did not go well; nothing if it did.

    That is what `work` returns there, or what became of the child. It is killed at `deadline`, a
    time of `time.monotonic`, and so is what it leaves behind. Needs a process with one thread.
    """
    launcher = os.getpid()
    report, reporting = os.pipe()
    offspring.flush()
    try:
        pid = os.fork()
        if pid == 0:
            _do(work, reporting, launcher)
        in_time = _ended(pid, deadline)
        status = _bury(pid)
        os.set_blocking(report, False)
        # Not up to its end: somebody else may have got the other one.
        said = b""
        with suppress(BlockingIOError):
            said = os.read(report, _REASON_BYTES)
    finally:
        os.close(report)
        os.close(reporting)
    if not in_time:
        return "it took too long"
    if said:
        return "" if said == _WENT_WELL else said.decode(errors="replace")
    return f"its process ended with {f'signal {-status}' if status < 0 else f'status {status}'}"


def _do(work: Callable[[], str], report: int, launcher: int) -> NoReturn:
    try:
        os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() == launcher:
            kernel.be_called("axon-trial")
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            reason = work().encode(errors="replace")[:_REASON_BYTES]
            os.write(report, reason or _WENT_WELL)
    finally:
        os._exit(1)


def _ended(pid: int, deadline: float) -> bool:
    """Waits for the child, until `deadline` at the latest; says whether it has ended."""
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        finally:
            os.close(handle)
    return False


def _bury(pid: int) -> int:
    """Kills the child and what it has started, as far as they live; returns its exit code."""
    below = list(processes.below(pid, processes.listed()))
    # Itself first, so that it does not go on; it is not reaped, so its id is nobody else's.
    for end in (os.kill, os.killpg):
        with suppress(OSError):
            end(pid, signal.SIGKILL)
    processes.kill(below)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
