"""A run of an agent through the runner's own connections, with nobody at the other end."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from pydantic_ai.models import Model

from axon_runner.app import App
from axon_runner.attempt import Generation
from axon_runner.http import Connection
from axon_runner.launch import Launch
from axon_runner.redaction import Redactor
from axon_runner.registry import Registered, Registry
from axon_runner.threads import Threads

TOOL = "look_up"
ARGUMENTS = {"number": 1}
OUTPUT = {"answer": "1"}

_TARGET = "axon_runner.rehearsal:look_up"
_MODEL = "axon_runner.rehearsal:model"
_SECONDS = 10.0
_FRAME = re.compile(rb"event: (\w+)\nid: (\d+)\ndata: ([^\n]*)\n\n")
_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
_SPEC: dict[str, Any] = {
    "model": f"python:{_MODEL}",
    "retries": {"tools": 1, "output": 1},
    "tools": [{"name": TOOL, "target": f"python:{_TARGET}", "effect": "once", "timeout": 5.0}],
    "output": {"mode": "auto", "schema": _SCHEMA},
}


class Failed(Exception):
    """A rehearsed run did not complete; the message is what it said last."""


def rehearse(model: Model) -> None:
    """Runs an agent with one tool and structured output on `model`, as a whole and streamed.

    Needs a thread without an event loop, and leaves none behind. Raises `Failed`.
    """
    # Not uvloop's: it would open files that the whole process keeps, and its children must not.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(_rehearse(model), _SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def look_up(number: int) -> str:
    """Looks a number up."""
    return str(number)


async def _rehearse(model: Model) -> None:
    launch = Launch(type="launch", protocol=1, generation=1, token="rehearsal", agent="rehearsal")
    registry = Registry(
        {
            ("tool", _TARGET): Registered(look_up, "tool", "once"),
            ("model", _MODEL): Registered(model, "model", "once"),
        },
        module=None,
        agent=None,
    )
    generation = Generation(1, launch.limits, Redactor([launch.token]), Threads())
    app = App(launch, registry, generation, "")
    for stream in (False, True):
        await _Caller(app, f"run-{stream}").run(stream)
    await app.runs.idle.wait()


class _Sink(asyncio.Transport):
    """A connection whose other end takes everything."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes what the runner answers."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Has no buffer."""

    def close(self) -> None:
        """Has nothing to close."""


class _Caller(_Sink):
    """The connection of one run: what the runner asks for is given at once."""

    def __init__(self, app: App, run_id: str) -> None:
        super().__init__()
        self._app = app
        self._run_id = run_id
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, stream: bool) -> None:
        """Makes the run."""
        request = {
            "run_id": self._run_id,
            "attempt": 1,
            "spec": _SPEC,
            "prompt": "What is it?",
            "instructions": "Look it up.",
            "stream": stream,
            "deps": {},
            "usage_limits": {"request_limit": 5},
            "timeout": _SECONDS,
        }
        self._post(self, "/v1/runs", request)
        await self._ended

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes what the runner says of the run."""
        for kind, number, said in _FRAME.findall(bytes(data)):
            if kind in (b"checkpoint", b"tool_started"):
                permit = {"attempt": 1, "seq": int(number)}
                path = f"/v1/runs/{self._run_id}/permit"
                asyncio.get_running_loop().call_soon(self._post, _Sink(), path, permit)
            elif kind == b"attempt_completed":
                self._ended.set_result(None)
            elif kind.startswith(b"attempt_") and kind != b"attempt_started":
                self._ended.set_exception(Failed(said.decode()))

    def _post(self, transport: asyncio.Transport, path: str, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: runner\r\nauthorization: Bearer rehearsal\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        connection = Connection(self._app.service(), set())
        connection.connection_made(transport)
        connection.data_received(head.encode() + content)
