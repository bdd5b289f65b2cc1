"""The transport of model requests: what it sends, and what its failures mean."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest
from pydantic_ai.models import create_async_httpx2_client

from axon_runner import event_loop, http_client
from axon_runner.transport import AiohttpTransport

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def run(main: Awaitable[None]) -> None:
    """Runs a test on the runner's event loop, with time to spare."""

    async def whole() -> None:
        async with asyncio.timeout(20):
            await main

    with asyncio.Runner(loop_factory=event_loop.new_event_loop) as runner:
        runner.run(whole())


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[str]:
    """The address of a server that treats every connection this way."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def client(limits: httpx2.Limits | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A provider's client on the transport."""
    transport = AiohttpTransport(ssl.create_default_context(), limits or httpx2.Limits())
    async with create_async_httpx2_client(transport=transport) as made:
        yield made


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """The head of the next request."""
    return await reader.readuntil(b"\r\n\r\n")


def answering(answer: bytes) -> Serve:
    """Answers one request with these bytes and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()

    return serve


async def failure(url: str, **timeout: float) -> httpx2.RequestError:
    """What a request to `url` raises."""
    limits = httpx2.Timeout(10, **timeout)
    async with client() as made:
        with pytest.raises(httpx2.RequestError) as raised:
            await made.post(url, json={}, timeout=limits)
    return raised.value


def test_request_arrives_as_the_client_made_it() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_head(reader))
        seen.append(await reader.readexactly(7))
        writer.write(OK)

    async def main() -> None:
        async with served(serve) as url, client() as made:
            headers = [("x-twice", "1"), ("x-twice", "2")]
            target = f"{url}/v1/a%2Fb?q=%20c"
            response = await made.post(target, content=b'{"a":1}', headers=headers)
            assert response.text == "ok"
            assert response.http_version == "HTTP/1.1"
            assert response.reason_phrase == "OK"

    run(main())
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "POST /v1/a%2Fb?q=%20c HTTP/1.1"
    assert [line for line in lines if line.startswith("x-twice")] == ["x-twice: 1", "x-twice: 2"]
    assert sum(line.lower().startswith("user-agent: pydantic-ai") for line in lines) == 1
    assert sum(line.lower().startswith("content-length: 7") for line in lines) == 1
    assert not any(line.lower().startswith("content-type") for line in lines)
    assert seen[1] == b'{"a":1}'


@pytest.mark.parametrize("size", [10, 3 * 1024 * 1024])
def test_body_of_any_size_arrives_whole(size: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert b"chunked" not in head
        body = await reader.readexactly(size)
        writer.write(OK if body == b"x" * size else b"")
        writer.close()

    async def main() -> None:
        async with served(serve) as url, client() as made:
            assert (await made.post(url, content=b"x" * size)).text == "ok"

    run(main())


def test_body_that_is_made_meanwhile_is_sent_in_chunks() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"chunked" in await read_head(reader)
        assert await reader.readuntil(b"0\r\n\r\n") == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        writer.write(OK)

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def main() -> None:
        async with served(serve) as url, client() as made:
            assert (await made.post(url, content=body())).text == "ok"

    run(main())


def test_answer_is_read_as_it_comes_and_its_connection_is_used_again() -> None:
    connections: list[None] = []
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(None)
        for _ in range(2):
            await read_head(reader)
            writer.write(CHUNKED + b"1\r\na\r\n")
            await go_on.wait()
            writer.write(b"1\r\nb\r\n0\r\n\r\n")

    async def main() -> None:
        async with served(serve) as url, client() as made:
            for _ in range(2):
                go_on.clear()
                async with made.stream("GET", url) as response:
                    pieces = response.aiter_raw()
                    assert await anext(pieces) == b"a"
                    go_on.set()
                    assert [piece async for piece in pieces] == [b"b"]
        assert len(connections) == 1

    run(main())


@pytest.mark.parametrize("how", ["cancelled before the head", "cancelled in the body", "left"])
def test_request_that_is_given_up_closes_its_connection(how: str) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if how != "cancelled before the head":
            writer.write(CHUNKED + b"1\r\na\r\n")
        arrived.set()
        assert await reader.read() == b""
        gone.set()

    async def main() -> None:
        async with served(serve) as url, client() as made:

            async def ask() -> None:
                async with made.stream("GET", url) as response:
                    async for _piece in response.aiter_raw():
                        if how == "left":
                            return
                        reading.set()

            reading = asyncio.Event()
            task = asyncio.ensure_future(ask())
            await arrived.wait()
            if how == "cancelled in the body":
                await reading.wait()
            if how != "left":
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await gone.wait()
            await asyncio.wait([task])

    run(main())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200", httpx2.RemoteProtocolError),
        (b"no HTTP at all\r\n\r\n", httpx2.RemoteProtocolError),
        (CHUNKED + b"5\r\nab", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", httpx2.RemoteProtocolError),
    ],
)
def test_answer_that_breaks_off_is_a_broken_protocol(
    answer: bytes, expected: type[httpx2.RequestError]
) -> None:
    async def main() -> None:
        async with served(answering(answer)) as url:
            assert type(await failure(url)) is expected

    run(main())


def test_connection_that_is_refused_was_never_made() -> None:
    async def main() -> None:
        async with served(answering(OK)) as url:
            pass
        assert type(await failure(url)) is httpx2.ConnectError

    run(main())


def test_name_that_nobody_has_was_never_connected_to() -> None:
    async def main() -> None:
        assert type(await failure("http://nobody.invalid")) is httpx2.ConnectError

    run(main())


def test_server_that_speaks_no_tls_was_never_connected_to() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"no TLS")

    async def main() -> None:
        async with served(serve) as url:
            error = await failure(url.replace("http:", "https:"))
            assert type(error) is httpx2.ConnectError

    run(main())


@pytest.mark.parametrize("begun", [b"", CHUNKED + b"1\r\na\r\n"])
def test_answer_that_does_not_come_is_out_of_time(begun: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(begun)
        await reader.read()

    async def main() -> None:
        async with served(serve) as url:
            assert type(await failure(url, read=0.05)) is httpx2.ReadTimeout

    run(main())


def test_tls_that_is_never_answered_is_out_of_time_to_connect() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass

    async def main() -> None:
        async with served(serve) as url:
            error = await failure(url.replace("http:", "https:"), connect=0.05)
            assert type(error) is httpx2.ConnectTimeout

    run(main())


def test_request_that_nobody_takes_is_out_of_time_to_write() -> None:
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()

    async def main() -> None:
        async with served(serve) as url, client() as made:
            with pytest.raises(httpx2.WriteTimeout):
                await made.post(url, content=b"x" * 64 * 1024 * 1024, timeout=httpx2.Timeout(0.1))
            done.set()

    run(main())


def test_connection_that_does_not_come_free_is_out_of_time_for_the_pool() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(CHUNKED)
        await reader.read()

    async def main() -> None:
        one = httpx2.Limits(max_connections=1)
        async with served(serve) as url, client(one) as made:
            limits = httpx2.Timeout(10, pool=0.05)
            async with made.stream("GET", url):
                with pytest.raises(httpx2.PoolTimeout):
                    await made.get(url, timeout=limits)
            async with made.stream("GET", url, timeout=limits) as response:
                assert response.status_code == 200

    run(main())


def test_one_client_serves_several_event_loops() -> None:
    transport = AiohttpTransport(ssl.create_default_context(), httpx2.Limits())
    made = create_async_httpx2_client(transport=transport)

    async def main() -> None:
        async with served(answering(OK)) as url:
            assert (await made.get(url)).text == "ok"
        await transport.aclose()

    run(main())
    run(main())


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY", "http_proxy"])
def test_behind_a_proxy_a_provider_keeps_its_own_client(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(each, raising=False)
        monkeypatch.delenv(each.lower(), raising=False)
    assert http_client.arguments("openai-chat").keys() == {"http_client"}
    assert http_client.arguments("google") == {}
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert http_client.arguments("openai-chat").keys() == {"http_client"}
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert http_client.arguments("openai-chat") == {}
