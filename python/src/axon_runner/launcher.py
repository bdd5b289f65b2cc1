"""The launcher: the one parent of all runners of an environment.

It imports what runners need once, and forks each of them from there in a few milliseconds; a
program that it cannot fork it starts from nothing. It is single-threaded, runs no user code, and is
told what to do by Rust over the socket that it was started with. When that socket closes, because
Rust has gone, however it went, it kills everything below itself, and then ends.

It needs nothing but the standard library to start programs, so that it also serves where the
environment lacks what runners need.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from axon_runner import kernel, offspring, processes
from axon_runner.offspring import Start
from axon_runner.warmth import Warmth

_COMMANDS = 3
_LIFELINE = 5
_FDS = 5
_READ = 1 << 16
_END_SECONDS = 5.0
_STRAYS_SECONDS = 0.1


def main() -> None:
    """Serves until Rust is gone; in a forked child, runs the runner. Never returns."""
    kernel.adopt_orphans()
    kernel.be_called("axon-launcher")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    launcher = Launcher(socket.socket(fileno=_COMMANDS))
    if launcher.serve():
        offspring.run()
    processes.end_descendants(_END_SECONDS)
    os._exit(0)


class Launcher:
    """Starts, signals and buries runners as Rust asks for it."""

    def __init__(self, commands: socket.socket) -> None:
        self._commands = commands
        self._pid = os.getpid()
        self._runners: dict[int, _Runner] = {}
        self._received = bytearray()
        self._fds: list[int] = []
        self._warmth = Warmth()

    def serve(self) -> bool:
        """Does what comes in. Returns false when Rust is gone, and true in a new child."""
        died, wake = os.pipe()
        for fd in (died, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self._commands, select.POLLIN)
        poll.register(died, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if died in ready:
                with suppress(BlockingIOError):
                    os.read(died, _READ)
                self._bury()
            if self._commands.fileno() in ready:
                records = self._receive()
                if records is None:
                    return False
                if any(self._obey(record) for record in records):
                    return True

    def _receive(self) -> list[bytes] | None:
        """Returns the records that have come in whole, or `None` at the end.

        Rust sends no start before the last one is answered, so the descriptors are those of one.
        """
        try:
            data, ancillary, _, _ = self._commands.recvmsg(
                _READ, socket.CMSG_SPACE(_FDS * array.array("i").itemsize)
            )
        except ConnectionError:
            return None
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._fds.extend(numbers)
        if not data:
            return None
        self._received += data
        if not self._received.endswith(b"\n"):
            return []
        lines, self._received = bytes(self._received).splitlines(), bytearray()
        return lines

    def _obey(self, line: bytes) -> bool:
        """Carries out the record in `line`; true in the child that it has forked."""
        with _going_on("a record was not understood"):
            record = json.loads(line)
            if record["type"] == "start":
                return self._start_or_tell(record)
            runner = next((r for r in self._runners.values() if r.id == record["id"]), None)
            if runner is not None:
                runner.signal(record["signal"])
        return False

    def _start_or_tell(self, record: dict[str, Any]) -> bool:
        fds, self._fds = self._fds, []
        try:
            return self._start(Start.read(record), fds)
        except Exception as error:  # noqa: BLE001 - whatever it is, Rust is told, and others live
            number = offspring.number_of(error)
            self._tell({"type": "failed", "id": record.get("id"), "errno": number})
            if not isinstance(error, OSError):
                _say("a process could not be started", error)
            return False
        finally:
            if os.getpid() == self._pid:
                for fd in fds:
                    os.close(fd)

    def _start(self, start: Start, fds: list[int]) -> bool:
        cold = ""
        if start.fork:
            with _ending_with(self._commands):
                cold = self._warmth.missing(start.providers, bool(self._runners))
        lifeline = os.readlink(f"/proc/self/fd/{fds[2]}")
        offspring.flush()
        if start.fork and not cold:
            pid = os.fork()
            if pid == 0:
                self._commands.detach()
                offspring.become_or_end(start, fds, self._pid)
                return True
        else:
            pid = self._execute(start, fds)
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            raise
        self._runners[pid] = _Runner(pid, start.id, lifeline)
        self._tell({"type": "started", "id": start.id, "pid": pid, "cold": cold}, handle)
        os.close(handle)
        return False

    def _execute(self, start: Start, fds: list[int]) -> int:
        report, reporting = os.pipe()
        pid = os.fork()
        if pid == 0:
            offspring.execute(start, fds, self._pid, reporting)
        os.close(reporting)
        with os.fdopen(report, "rb") as file:
            number = file.read()
        if number:
            os.waitpid(pid, 0)
            raise OSError(int(number), "not started")
        return pid

    def _bury(self) -> None:
        """Reaps who has ended, tells of runners, and ends what they left behind."""
        with suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                runner = self._runners.pop(found.si_pid, None)
                strays = 0
                if runner is not None:
                    with _going_on(f"what process {runner.pid} has left behind was not ended"):
                        # Until it is reaped nobody else gets its id, nor its group's.
                        strays = runner.end_strays(self._runners)
                _, status, used = os.wait4(found.si_pid, 0)
                if runner is not None:
                    self._tell(
                        {
                            "type": "exited",
                            "id": runner.id,
                            "status": status,
                            "strays": strays,
                            "max_resident_bytes": used.ru_maxrss * 1024,
                            "cpu_seconds": used.ru_utime + used.ru_stime,
                        }
                    )

    def _tell(self, record: dict[str, Any], *fds: int) -> None:
        line = json.dumps(record).encode() + b"\n"
        # If Rust is gone the next read says so.
        with suppress(OSError):
            socket.send_fds(self._commands, [line], list(fds))


@contextmanager
def _going_on(what: str) -> Iterator[None]:
    """Says in one line what was not done; the other runners need this process."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is
        _say(what, error)


def _say(what: str, error: Exception) -> None:
    reason = " ".join(str(error).split())
    with suppress(OSError, ValueError):
        print(f"{what}: {type(error).__name__}: {reason}", file=sys.stderr, flush=True)


@contextmanager
def _ending_with(commands: socket.socket) -> Iterator[None]:
    """Ends everything at once when Rust goes meanwhile: imports take seconds, and read nothing."""
    poll = select.poll()
    poll.register(commands, select.POLLRDHUP)

    def end_if_it_is_gone(*_: object) -> None:
        if poll.poll(0):
            processes.end_descendants(_END_SECONDS)
            os._exit(0)

    flags = fcntl.fcntl(commands, fcntl.F_GETFL)
    signal.signal(signal.SIGIO, end_if_it_is_gone)
    fcntl.fcntl(commands, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(commands, fcntl.F_SETFL, flags | os.O_ASYNC)
    end_if_it_is_gone()
    try:
        yield
    finally:
        fcntl.fcntl(commands, fcntl.F_SETFL, flags)
        signal.signal(signal.SIGIO, signal.SIG_DFL)


class _Runner:
    """A child that is a runner: it leads a session, and what is in it."""

    def __init__(self, pid: int, number: int, lifeline: str) -> None:
        self.pid = pid
        self.id = number
        self._lifeline = lifeline

    def signal(self, number: int) -> None:
        """Signals its group; when that is to end at once, what has left the group too."""
        below = []
        if number == signal.SIGKILL:
            below = list(processes.below(self.pid, processes.listed()))
        # There may be nobody left to signal, or only those that have become another user's.
        with suppress(OSError):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:  # forked a moment ago, it does not lead a group yet
                os.kill(self.pid, number)
        processes.kill(below)

    def end_strays(self, others: dict[int, _Runner]) -> int:
        """Kills what this runner, which has ended, has left behind; returns how many those were.

        Whatever loses its parent comes to this process, so the children that are no runners are
        strays. One that tells nothing of its origin may be that of a runner that lives: it is let
        be until the last runner has ended.
        """
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        listed = processes.listed()
        strays = [
            process
            for process in listed.values()
            if process.parent == os.getpid()
            and process.pid != self.pid
            and process.pid not in others
            and (not others or self._left(process))
        ]
        below = [found for stray in strays for found in processes.below(stray.pid, listed)]
        return processes.kill([s for s in strays if not s.zombie] + below)

    def _left(self, process: processes.Process) -> bool:
        if process.session == self.pid:
            return True
        # What was started by a program carries the variable; what was only forked, the lifeline.
        owner = processes.variable(process.pid, "AXON_RUNNER")
        if owner is not None:
            return owner == str(self.id)
        return processes.has_open(process.pid, self._lifeline)
