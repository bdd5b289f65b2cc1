"""The launcher, spoken to over its socket as Rust does it."""

from __future__ import annotations

import array
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness import AGENTS, DEADLINE, SOURCES, Json, UnixConnection, launch_record

_BECOME_FD_3 = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execv(sys.argv[2], sys.argv[2:])
"""

# Tells its own id and then does what it is told to in Python, with `tell(number)` at hand.
_PROGRAM = """
import json, os, signal, subprocess, sys
def tell(number):
    os.write(1, f"{number}\\n".encode())
def daemon():
    if (between := os.fork()) == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.close(0)
        os.closerange(2, 64)
        tell(os.getpid())
        os.close(1)
        signal.pause()
    os.waitpid(between, 0)
"""


_PRELUDE = f"""
import sys
sys.path.insert(0, {str(SOURCES)!r})
"""

_MAIN = """
from axon_runner import launcher
launcher.main()
"""


@dataclass
class Told:
    """A record of the launcher, with the descriptor that came with it."""

    record: Json
    fd: int | None = None

    def __getitem__(self, name: str) -> Any:
        return self.record[name]


class Started:
    """A process that the launcher was asked for, from this side."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.folder = tempfile.TemporaryDirectory(prefix="axon-test-")
        self.path = os.path.join(self.folder.name, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.control, self.theirs = socket.socketpair()
        self.control.settimeout(DEADLINE)
        self.watched, self.lifeline = os.pipe()
        self.output, self.writes = os.pipe()
        self._unread = b""

    def fds(self) -> list[int]:
        """What the process gets, in the order of the protocol."""
        sockets = [self.theirs.fileno(), self.listener.fileno()]
        return [*sockets, self.watched, self.writes, self.writes]

    def handed_over(self) -> None:
        """Closes what the process has now."""
        self.theirs.close()
        self.listener.close()
        os.close(self.watched)
        os.close(self.writes)

    def line(self) -> str:
        """The next line of its outputs."""
        while b"\n" not in self._unread:
            assert select.select([self.output], [], [], DEADLINE)[0], "it wrote nothing"
            data = os.read(self.output, 65536)
            assert data, "its outputs are closed"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def pid(self) -> int:
        """The process id that it tells."""
        return int(self.line())

    def close(self) -> None:
        """Frees everything."""
        self.control.close()
        os.close(self.lifeline)
        os.close(self.output)
        self.folder.cleanup()


class Launcher:
    """A launcher process, and this side of its socket."""

    def __init__(self, prelude: str = "") -> None:
        self.commands, theirs = socket.socketpair()
        self.commands.settimeout(DEADLINE)
        sources = [sys.executable, "-I", str(SOURCES), "launcher"]
        if prelude:
            sources = [sys.executable, "-I", "-c", _PRELUDE + prelude + _MAIN]
        self.stderr = tempfile.TemporaryFile("w+")
        fd = theirs.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BECOME_FD_3, str(fd), *sources],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stderr=self.stderr,
            env={"PATH": os.environ["PATH"], "OF_LAUNCHER": "1"},
        )
        theirs.close()
        self._unread = b""
        self._fds: list[int] = []
        self._started: list[Started] = []

    def start(self, code: str = "", **fields: Any) -> Started:
        """Asks for a process: a program in Python, or what `fields` say."""
        started = Started(len(self._started) + 1)
        self._started.append(started)
        program = [sys.executable, "-I", "-S", "-c", _PROGRAM + code]
        record = {
            "type": "start",
            "id": started.number,
            "fork": False,
            "name": "test",
            "command": program,
            "env": {"AXON_RUNNER": str(started.number), "PATH": os.environ["PATH"]},
            "directory": started.folder.name,
            "providers": [],
            **fields,
        }
        rights = array.array("i", started.fds())
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        self.commands.sendmsg([json.dumps(record).encode() + b"\n"], ancillary)
        started.handed_over()
        return started

    def launched(self, code: str = "", **fields: Any) -> tuple[Started, int]:
        """Starts a process and waits until it is there."""
        started = self.start(code, **fields)
        told = self.told("started")
        assert told["id"] == started.number
        return started, told["pid"]

    def signal(self, started: Started, number: int) -> None:
        """Asks for a signal to the process."""
        record = {"type": "signal", "id": started.number, "signal": number}
        self.commands.sendall(json.dumps(record).encode() + b"\n")

    def told(self, kind: str) -> Told:
        """The next record, which has to be of this kind."""
        while b"\n" not in self._unread:
            data, fds, _, _ = socket.recv_fds(self.commands, 65536, 8)
            assert data, "the launcher has closed its socket"
            self._unread += data
            self._fds += fds
        line, _, self._unread = self._unread.partition(b"\n")
        told = Told(json.loads(line))
        assert told["type"] == kind, told
        if kind == "started":
            told.fd = self._fds.pop(0)
            os.close(told.fd)
        return told

    def said(self) -> list[str]:
        """The lines that it has written to its stderr."""
        self.stderr.seek(0)
        return self.stderr.read().splitlines()

    def close(self) -> None:
        """Ends it as the end of Rust does; does no harm twice."""
        self.commands.close()
        print(*self.said(), sep="\n")
        try:
            assert self.process.wait(DEADLINE) is not None
        finally:
            self.process.kill()
            for started in self._started:
                started.close()
            self._started.clear()
            while self._fds:
                os.close(self._fds.pop())
            self.stderr.close()


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    """A launcher that ends with the test, and all that it has started."""
    launcher = Launcher()
    yield launcher
    launcher.close()


class Watched:
    """A process that is no child of ours."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    def gone(self, within: float = DEADLINE) -> bool:
        """Waits until it has ended."""
        return bool(select.select([self._handle], [], [], within)[0])

    def kill(self) -> None:
        """Kills exactly this one."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def __del__(self) -> None:
        os.close(self._handle)


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_program_gets_its_descriptors_its_environment_and_a_session_of_its_own(
    launcher: Launcher,
) -> None:
    code = """
tell(os.getpid())
tell(os.getsid(0))
print(json.dumps(sorted(os.environ)), flush=True)
print(json.dumps(sorted(map(int, os.listdir("/proc/self/fd")))[:-1]), flush=True)
print(os.getcwd(), os.readlink("/proc/self/fd/0"), flush=True)
signal.pause()
"""
    started, pid = launcher.launched(code)

    assert started.pid() == pid == started.pid()
    assert parent(pid) == launcher.process.pid
    assert json.loads(started.line()) == ["AXON_RUNNER", "LC_CTYPE", "PATH"]
    assert json.loads(started.line()) == [0, 1, 2, 3, 4, 5]
    assert started.line() == f"{started.folder.name} /dev/null"


def test_forked_runner_serves(launcher: Launcher) -> None:
    started, pid = launcher.launched(fork=True, command=[])
    started.control.sendall(json.dumps(launch_record(path=[str(AGENTS)])).encode() + b"\n")
    ready = json.loads(started.control.makefile().readline())
    connection = UnixConnection(started.path)
    token = {"authorization": f"Bearer {launch_record()['token']}"}
    connection.request("GET", "/healthz", headers=token)
    health = json.loads(connection.getresponse().read())
    connection.close()

    assert (ready["type"], ready["pid"], health["pid"]) == ("ready", pid, pid)
    assert parent(pid) == launcher.process.pid
    assert len(os.listdir(f"/proc/{launcher.process.pid}/task")) == 1
    launcher.signal(started, signal.SIGTERM)
    exited = launcher.told("exited")
    assert (exited["id"], exited["status"]) == (started.number, 0)


def test_provider_that_crashes_is_cold_and_other_runners_live_on() -> None:
    prelude = """
import os, types
def warm(names):
    if "crashes" in names:
        os.abort()
    return {}
sys.modules["axon_runner.warm"] = types.SimpleNamespace(warm=warm)
"""
    launcher = Launcher(prelude)
    try:
        living = Watched(launcher.launched(fork=True)[1])
        cold = launcher.start("tell(7)\nsignal.pause()", fork=True, providers=["crashes"])
        said = launcher.told("started")["cold"]
        launcher.start(fork=True, providers=["works"])

        assert (said, cold.pid()) == ("its process ended with signal 6", 7)
        assert launcher.told("started")["cold"] == ""
        assert not living.gone(0)
    finally:
        launcher.close()


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        ({"command": ["/nowhere/there/is/this"]}, errno.ENOENT),
        ({"command": [os.path.dirname(__file__)]}, errno.EACCES),
        ({"directory": "/nowhere/there/is/this"}, errno.ENOENT),
    ],
)
def test_what_cannot_be_started_is_told_with_its_reason(
    launcher: Launcher, changed: Json, number: int
) -> None:
    launcher.start(**changed)

    assert launcher.told("failed")["errno"] == number
    assert launcher.launched("tell(7)")[0].pid() == 7, "it goes on"


@pytest.mark.parametrize(
    "changed",
    [
        {"env": {"NAME": "a\0b"}},
        {"env": {"NAME": 1}},
        {"command": []},
    ],
)
def test_start_that_makes_no_sense_fails_and_the_launcher_goes_on(
    launcher: Launcher, changed: Json
) -> None:
    launcher.start(**changed)

    assert launcher.told("failed")["errno"] == errno.EIO
    assert launcher.launched("tell(7)")[0].pid() == 7


def test_record_that_makes_no_sense_is_told_in_one_line(launcher: Launcher) -> None:
    living, _ = launcher.launched("tell(7)\nsignal.pause()")
    living.pid()
    launcher.commands.sendall(b"what?\n")
    launcher.commands.sendall(b'[]\n{"type":"signal"}\n')

    assert launcher.launched("tell(8)")[0].pid() == 8
    launcher.signal(living, signal.SIGKILL)
    launcher.told("exited")
    assert len(launcher.said()) == 3
    assert all(line.startswith("a record was not understood: ") for line in launcher.said())


def test_what_the_launcher_has_buffered_is_not_a_childs_to_print() -> None:
    launcher = Launcher("sys.stdout = open(1, 'w', buffering=1 << 16); print('buffered')")
    try:
        started, _ = launcher.launched(fork=True, command=[])
        started.control.close()
        launcher.told("exited")
        assert b"buffered" not in os.read(started.output, 65536)
    finally:
        launcher.close()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("sys.exit(3)", 3 << 8),
        ("os.kill(os.getpid(), 9)", 9),
        ("os.kill(os.getpid(), signal.SIGUSR2)", signal.SIGUSR2),
    ],
)
def test_exit_is_told_with_its_status(launcher: Launcher, code: str, status: int) -> None:
    started, _ = launcher.launched(code)
    exited = launcher.told("exited")

    assert (exited["id"], exited["status"], exited["strays"]) == (started.number, status, 0)
    assert exited["max_resident_bytes"] > 1_000_000
    assert exited["cpu_seconds"] > 0


def test_what_a_runner_leaves_behind_is_killed_and_counted(launcher: Launcher) -> None:
    code = """
daemon()
tell(subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=2).pid)
tell(subprocess.Popen(["sleep", "600"], stdout=2).pid)
os.read(3, 1)
"""
    started, _ = launcher.launched(code)
    left = [Watched(started.pid()) for _ in range(3)]
    started.control.sendall(b"x")
    exited = launcher.told("exited")

    assert all(process.gone() for process in left)
    # The one in its group may have died with that already.
    assert exited["status"] == 0
    assert exited["strays"] in (2, 3)


def test_what_a_living_runner_has_started_is_left_alone(launcher: Launcher) -> None:
    code = """
daemon()
tell(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
signal.pause()
"""
    living, _ = launcher.launched(code)
    theirs = [Watched(living.pid()) for _ in range(2)]
    other, _ = launcher.launched(code)
    left = [Watched(other.pid()) for _ in range(2)]
    launcher.signal(other, signal.SIGKILL)

    assert launcher.told("exited")["id"] == other.number
    assert all(process.gone() for process in left)
    assert not any(process.gone(0) for process in theirs)
    launcher.signal(living, signal.SIGKILL)
    launcher.told("exited")
    assert all(process.gone() for process in theirs)


def test_stray_of_unknown_origin_dies_with_the_last_runner(launcher: Launcher) -> None:
    # Started without the variable, so that what it forks does not carry it either.
    env = {"PATH": os.environ["PATH"]}
    code = "daemon()\ntell(0)\nsignal.pause()"
    living, _ = launcher.launched(code, env=env)
    other, _ = launcher.launched(code, env=env)
    # The daemon and its grandparent tell theirs in any order.
    unknown = [Watched(max(run.pid(), run.pid())) for run in (living, other)]
    launcher.signal(other, signal.SIGKILL)

    assert launcher.told("exited")["strays"] == 0
    assert not any(process.gone(0) for process in unknown)
    launcher.signal(living, signal.SIGKILL)
    assert launcher.told("exited")["strays"] == 2
    assert all(process.gone() for process in unknown)


def test_kill_takes_along_what_has_left_the_group(launcher: Launcher) -> None:
    code = """
tell(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
signal.pause()
"""
    started, pid = launcher.launched(code)
    child, own = Watched(started.pid()), Watched(pid)
    launcher.signal(started, signal.SIGKILL)

    assert own.gone()
    assert child.gone()
    assert launcher.told("exited")["status"] == signal.SIGKILL


def test_another_signal_reaches_the_group_only(launcher: Launcher) -> None:
    code = """
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
tell(child.pid)
signal.sigwait([signal.SIGTERM])
tell("told")
signal.pause()
"""
    started, _ = launcher.launched(code)
    child = Watched(started.pid())
    launcher.signal(started, signal.SIGTERM)

    assert started.line() == "told"
    assert not child.gone(0)


def test_everything_ends_with_the_socket(launcher: Launcher) -> None:
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
daemon()
tell(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
tell(os.getpid())
signal.pause()
"""
    processes = []
    for _ in range(2):
        started, _ = launcher.launched(code)
        processes += [Watched(started.pid()) for _ in range(3)]
    launcher.commands.close()

    assert all(process.gone() for process in processes)
    assert launcher.process.wait(DEADLINE) == 0


def test_it_ends_while_it_imports_when_the_socket_closes(launcher: Launcher) -> None:
    started, pid = launcher.launched("tell(os.getpid())\nsignal.pause()")
    living = Watched(pid)
    started.line()
    launcher.start(fork=True, command=[])
    launcher.commands.close()

    assert launcher.process.wait(1.0) == 0
    assert living.gone()


def test_the_kernel_ends_runners_with_a_launcher_that_is_killed(launcher: Launcher) -> None:
    code = "tell(os.getpid())\nsignal.pause()"
    processes = [Watched(launcher.launched(code)[1]) for _ in range(2)]
    launcher.process.kill()

    assert all(process.gone() for process in processes)
