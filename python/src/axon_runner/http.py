"""HTTP/1.1 over a connection: h11 for the grammar, asyncio for the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import h11

from axon_runner import event_loop
from axon_runner.sse import EventStream

_HEAD_BYTES = 16 * 1024
_WRITE_HIGH_WATER = 256 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """Method, decoded path and headers (lower-case names) of a request."""

    method: str
    path: str
    headers: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer; `body` is JSON, or empty with 204."""

    status: int
    body: bytes = b""
    close: bool = False


Reply = Response | EventStream | Coroutine[Any, Any, Response]
"""What a handler gives: an answer now, an event stream, or an answer that takes a while."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a connection needs to serve requests.

    `admit` sees a request's head before its body is read, and refuses it with a response.
    """

    admit: Callable[[Head], Response | None]
    handle: Callable[[Head, bytes], Reply]
    refuse: Callable[[int, str], Response]
    body_bytes: int


class Connection(asyncio.Protocol):
    """Serves the requests of one connection, one after the other."""

    def __init__(self, service: Service, open_connections: set[Connection]) -> None:
        self._service = service
        self._open = open_connections
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._received = 0
        self._stream: EventStream | None = None
        self._unsent = b""
        self._task: asyncio.Task[Response] | None = None
        self._lost = asyncio.get_running_loop().create_future()

    async def closed(self) -> None:
        """Closes the connection after what is buffered, and waits until it is closed."""
        if self._stream is not None:
            await self._stream.finished()
        self._close()
        await asyncio.shield(self._lost)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of a stream, whatever the event loop derives it from.
        self._transport = cast(asyncio.Transport, transport)
        # uvloop holds back what is below the mark until the end of its turn, and user code may take
        # long until then, or for ever: what was said has to be on its way.
        high = 0 if event_loop.IS_UVLOOP else _WRITE_HIGH_WATER
        self._transport.set_write_buffer_limits(high=high)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._open.discard(self)
        self._lost.set_result(None)
        # It may be cancelled already, and a second time would break what cleans up.
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()
        if self._stream is not None:
            self._stream.disconnected()

    def pause_writing(self) -> None:
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        if self._stream is not None:
            self._stream.resume()

    def data_received(self, data: bytes) -> None:
        self._h11.receive_data(data)
        self._advance()

    def _advance(self) -> None:
        try:
            while self._step():
                pass
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, "malformed HTTP request")

    def _step(self) -> bool:
        event = self._h11.next_event()
        match event:
            case h11.Request():
                return self._begin(event)
            case h11.Data():
                return self._collect(bytes(event.data))
            case h11.EndOfMessage():
                return self._dispatch()
            case h11.ConnectionClosed():
                self._close()
                return False
            case _:
                return False

    def _begin(self, event: h11.Request) -> bool:
        path = event.target.partition(b"?")[0].decode("ascii")
        head = Head(event.method.decode("ascii"), unquote(path), dict(event.headers))
        if sum(len(name) + len(value) for name, value in event.headers) > _HEAD_BYTES:
            self._refuse(431, f"the headers are over {_HEAD_BYTES} bytes")
            return False
        self._head = head
        self._body.clear()
        self._received = 0
        refusal = self._service.admit(head)
        if refusal is not None:
            return self._answer(refusal)
        length = head.headers.get(b"content-length", b"0")
        if int(length) > self._service.body_bytes:
            self._refuse(413, f"the body is over {self._service.body_bytes} bytes")
            return False
        if self._h11.they_are_waiting_for_100_continue:
            interim = self._h11.send(h11.InformationalResponse(status_code=100, headers=[]))
            if self._transport is not None:
                self._transport.write(interim or b"")
        return True

    def _collect(self, data: bytes) -> bool:
        self._received += len(data)
        if self._received > self._service.body_bytes:
            self._refuse(413, f"the body is over {self._service.body_bytes} bytes")
            return False
        self._body.append(data)
        return True

    def _dispatch(self) -> bool:
        assert self._head is not None
        reply = self._service.handle(self._head, b"".join(self._body))
        self._body.clear()
        match reply:
            case Response():
                return self._answer(reply)
            case EventStream():
                self._open_stream(reply)
            case _:
                self._task = asyncio.get_running_loop().create_task(reply)
                self._task.add_done_callback(self._answered)
        return False

    def _answered(self, task: asyncio.Task[Response]) -> None:
        self._task = None
        if not task.cancelled() and self._answer(task.result()):
            self._advance()

    def _answer(self, response: Response) -> bool:
        """Writes `response`; says whether the connection is ready for the next request."""
        if self._transport is None:
            return False
        headers = [("content-length", str(len(response.body)))]
        if response.body:
            headers.append(("content-type", "application/json"))
        whole = self._h11.their_state is h11.DONE
        if response.close or not whole:
            headers.append(("connection", "close"))
        head = h11.Response(
            status_code=response.status,
            headers=headers,
            reason=HTTPStatus(response.status).phrase.encode(),
        )
        data = self._h11.send(head) or b""
        if response.body:
            data += self._h11.send(h11.Data(data=response.body)) or b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        self._transport.write(data)
        return self._next_request()

    def _open_stream(self, stream: EventStream) -> None:
        self._stream = stream
        headers = [("content-type", "text/event-stream"), ("cache-control", "no-store")]
        head = h11.Response(status_code=200, headers=headers, reason=b"OK")
        self._unsent = self._h11.send(head) or b""
        stream.attach(self._write_events)

    def _write_events(self, events: bytes, last: bool) -> None:
        data = self._unsent + (self._h11.send(h11.Data(data=events)) or b"")
        self._unsent = b""
        if last:
            data += self._h11.send(h11.EndOfMessage()) or b""
        if self._transport is not None:
            self._transport.write(data)
        if last:
            self._stream = None
            if self._next_request():
                self._advance()

    def _next_request(self) -> bool:
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            return True
        self._close()
        return False

    def _refuse(self, status: int, message: str) -> None:
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer(self._service.refuse(status, message))
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
