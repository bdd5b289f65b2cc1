"""Plays the Rust side: launches a real runner on real sockets and speaks the protocol to it."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SOURCES = Path(__file__).resolve().parents[1] / "src"
AGENTS = Path(__file__).resolve().parent / "agents"
TOKEN = "0123456789abcdef-token"
DEADLINE = 30.0

_LAUNCHER = """
import os, sys
for target, source in zip((3, 4, 5), map(int, sys.argv[1:4])):
    os.dup2(source, target)
    os.close(source)
os.execv(sys.argv[4], sys.argv[4:])
"""

Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One event of a stream."""

    kind: str
    id: int
    data: Json


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    body: Any

    @property
    def error(self) -> Json:
        """The error object of a refusal."""
        error: Json = self.body["error"]
        return error


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("runner", timeout=DEADLINE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self._path)


class Stream:
    """The events of one attempt, as they come."""

    def __init__(self, runner: Runner, connection: UnixConnection, request: Json) -> None:
        self._runner = runner
        self._connection = connection
        self.request = request
        self.run_id: str = request["run_id"]
        self.attempt: int = request["attempt"]
        self._response = connection.getresponse()
        self.status = self._response.status
        self.seen: list[Event] = []

    def refusal(self) -> Answer:
        """The response of a request that did not start."""
        answer = Answer(self.status, json.loads(self._response.read()))
        self._connection.close()
        return answer

    def __iter__(self) -> Iterator[Event]:
        assert self.status == 200, self.refusal()
        while (event := self.next()) is not None:
            yield event

    def next(self) -> Event | None:
        """The next event; nothing at the end of the stream."""
        fields: dict[str, str] = {}
        while line := self._response.readline():
            text = line.decode().rstrip("\n")
            if text.startswith(":"):
                continue
            if text:
                key, _, value = text.partition(": ")
                fields[key] = value
            elif fields:
                event = Event(fields["event"], int(fields["id"]), json.loads(fields["data"]))
                self.seen.append(event)
                return event
        self._connection.close()
        return None

    def next_kind(self) -> str | None:
        """The kind of the next event."""
        event = self.next()
        return event.kind if event is not None else None

    def until(self, kind: str) -> Event:
        """Reads up to the first event of a kind; other permits on the way are given."""
        for event in self:
            if event.kind == kind:
                return event
            self.permit_if_asked(event)
        raise AssertionError(f"no {kind} in {[e.kind for e in self.seen]}")

    def permit_if_asked(self, event: Event) -> None:
        """Gives the permit that `event` asks for, if it asks for one."""
        asks = event.kind == "checkpoint" and event.data["before"] != "end"
        asks = asks or (event.kind == "tool_started" and event.data["permit"])
        if asks:
            answer = self.permit(event.id)
            assert answer.status == 204, answer

    def permit(self, seq: int) -> Answer:
        """Posts a permit."""
        body = {"attempt": self.attempt, "seq": seq}
        return self._runner.post(f"/v1/runs/{self.run_id}/permit", body)

    def answer(self, call: Event, status: str = "ok", **fields: Any) -> Answer:
        """Posts the result of a tool request."""
        body = {
            "attempt": self.attempt,
            "tool_call_id": call.data.get("check_id") or call.data["tool_call_id"],
            "status": status,
            **fields,
        }
        return self._runner.post(f"/v1/runs/{self.run_id}/tool_results", body)

    def finish(self, tools: Callable[[Event], Json] | None = None) -> Event:
        """Reads to the end, giving permits and answering tools, and returns the terminal."""
        for event in self:
            self.permit_if_asked(event)
            if event.kind in ("tool_request", "output_check"):
                assert tools is not None, event
                answer = self.answer(event, **tools(event))
                assert answer.status == 204, answer
        return self.seen[-1]

    def kinds(self) -> list[str]:
        """The kinds of the events so far."""
        return [event.kind for event in self.seen]

    def all(self, kind: str) -> list[Event]:
        """The events of one kind so far."""
        return [event for event in self.seen if event.kind == kind]

    def recorded(self) -> list[Json]:
        """The messages that a recording side would have now."""
        messages: list[Json] = list(self.request.get("message_history", []))
        for event in self.all("checkpoint"):
            messages[event.data["base"] :] = event.data["messages"]
        return messages

    def silent(self) -> bool:
        """Says whether nothing has arrived after the last event that was read."""
        assert self._connection.sock is not None
        return not select.select([self._connection.sock], [], [], 0)[0]

    def hang_up(self) -> None:
        """Closes the connection, in mid-stream or after it."""
        self._response.close()
        self._connection.close()


class Runner:
    """A runner process of its own group, with the three descriptors that Rust gives it."""

    def __init__(self, command: list[str] | None = None, **launch: Any) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="axon-test-")
        self.path = os.path.join(self.folder.name, "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(128)
        self.control, theirs = socket.socketpair()
        self.control.settimeout(DEADLINE)
        read_end, self.lifeline = os.pipe()
        self.output = tempfile.TemporaryFile()
        sources = [_high(fd) for fd in (theirs.fileno(), listener.fileno(), read_end)]
        program = command or [sys.executable, "-I", str(SOURCES)]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, sources), *program],
            pass_fds=sources,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            process_group=0,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        )
        for fd in (*sources, read_end):
            os.close(fd)
        theirs.close()
        listener.close()
        self._unread = b""
        self._streams: list[Stream] = []
        self.launch = launch_record(**launch)
        self.control.sendall(json.dumps(self.launch).encode() + b"\n")

    def __enter__(self) -> Self:
        self.first = self.record()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            print(self.printed(), file=sys.stderr)
        self.stop()

    def stop(self) -> None:
        """Kills the runner's group and frees everything; does no harm twice."""
        self.release()
        self.cut_lifeline()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)
        self.control.close()
        self.output.close()
        self.folder.cleanup()

    def cut_lifeline(self) -> None:
        """Closes the write end that only the parent has; does no harm twice."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def record(self) -> Json:
        """The next record on the control socket."""
        while b"\n" not in self._unread:
            chunk = self.control.recv(65536)
            if not chunk:
                raise EOFError(f"the runner closed its control socket: {self.printed()}")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        record: Json = json.loads(line)
        return record

    def printed(self) -> str:
        """What the runner wrote to its stdout and stderr."""
        return os.pread(self.output.fileno(), 1_000_000, 0).decode()

    def connect(self) -> UnixConnection:
        """A new connection."""
        return UnixConnection(self.path)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own; `body` is JSON or bytes."""
        connection = self.connect()
        try:
            connection.request(method, path, _encoded(body), self.headers(**headers))
            response = connection.getresponse()
            data = response.read()
            return Answer(response.status, json.loads(data) if data else None)
        finally:
            connection.close()

    def headers(self, **headers: str) -> dict[str, str]:
        """The headers of an authorised request."""
        return {"authorization": f"Bearer {self.launch['token']}", **headers}

    def get(self, path: str) -> Answer:
        """A GET request."""
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Answer:
        """A POST request."""
        return self.call("POST", path, body)

    def delete(self, stream: Stream) -> Answer:
        """Cancels the run of `stream`."""
        return self.call("DELETE", f"/v1/runs/{stream.run_id}")

    def steer(self, stream: Stream, content: Any, **fields: Any) -> Answer:
        """Sends a message to the run of `stream`."""
        body = {"attempt": stream.attempt, "message_id": "m1", "content": content, **fields}
        return self.post(f"/v1/runs/{stream.run_id}/messages", body)

    def start(self, request: Json, **headers: str) -> Stream:
        """Starts an attempt."""
        connection = self.connect()
        connection.request("POST", "/v1/runs", _encoded(request), self.headers(**headers))
        stream = Stream(self, connection, request)
        self._streams.append(stream)
        return stream

    def release(self) -> None:
        """Hangs up every stream that was started."""
        while self._streams:
            self._streams.pop().hang_up()


def launch_record(**changes: Any) -> Json:
    """A launch record with the test agents registered."""
    return {
        "type": "launch",
        "protocol": 1,
        "generation": 3,
        "token": TOKEN,
        "agent": "bank",
        "path": [str(AGENTS)],
        "package": None,
        "module": None,
        "callables": [],
        "env": {},
        "limits": {},
        **changes,
    }


def _encoded(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body).encode()


def _high(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 64)
