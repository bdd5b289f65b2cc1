"""The transport of provider clients: aiohttp's connections under the interface of httpx2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from ssl import SSLContext
from typing import NoReturn
from weakref import WeakKeyDictionary

import aiohttp
import httpx2
from yarl import URL

from axon_runner.trace import outgoing

Seconds = dict[str, float | None]
"""The time limits of a request, by phase; a phase that is missing or None has none."""

_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_FIELD_BYTES = 64 * 1024
# A body up to this size is with the kernel at once; only a larger one can be stuck on its way.
_PIECE_BYTES = 64 * 1024
# The first that fits. What may have been billed counts as sent.
_MEANING: tuple[tuple[type[Exception], type[httpx2.RequestError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.ClientConnectionError, httpx2.ReadError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.ClientError, httpx2.RemoteProtocolError),
    (OSError, httpx2.ReadError),
    (ValueError, httpx2.LocalProtocolError),
)


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Sends requests over connections that it pools, apart for each event loop.

    The timeouts are those of httpx2: `pool` seconds for a free connection, `connect` for name,
    socket and TLS together, `write` for the whole request, `read` for each piece of the answer.
    It knows no proxies and no HTTP/2.
    """

    def __init__(self, ssl_context: SSLContext, limits: httpx2.Limits) -> None:
        self._ssl_context = ssl_context
        self._limits = limits
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Returns the response as soon as its head is there."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = _Pool(self._ssl_context, self._limits)
        seconds: Seconds = request.extensions.get("timeout", {})
        await pool.take(seconds.get("pool"))
        try:
            response = await pool.send(request, seconds)
        except BaseException as error:
            pool.give_back()
            if isinstance(error, Exception):
                _reraise(error)
            raise
        return httpx2.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Body(response, pool.give_back),
            extensions={
                "http_version": b"HTTP/1.1",
                "reason_phrase": (response.reason or "").encode("latin-1", "replace"),
            },
        )

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()


class _Pool:
    """The connections of one event loop."""

    def __init__(self, ssl_context: SSLContext, limits: httpx2.Limits) -> None:
        most = limits.max_connections
        self._free = None if most is None else asyncio.Semaphore(most)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=limits.keepalive_expiry, ssl=ssl_context
            ),
            # Redirects, cookies, proxies and codings are left to httpx2.
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC,
            auto_decompress=False,
            max_line_size=_FIELD_BYTES,
            max_field_size=_FIELD_BYTES,
        )

    async def take(self, seconds: float | None) -> None:
        """Waits until one more connection may be used."""
        if self._free is None:
            return
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise httpx2.PoolTimeout("no connection became free in time") from error

    def give_back(self) -> None:
        """Ends the use of a connection."""
        if self._free is not None:
            self._free.release()

    async def send(self, request: httpx2.Request, seconds: Seconds) -> aiohttp.ClientResponse:
        """Sends `request` and returns the response, of which the head is there."""
        body = _body(request)
        try:
            async with asyncio.timeout(
                None if isinstance(body, bytes) else _until_answered(seconds)
            ):
                return await self._session.request(
                    request.method,
                    _url(request.url),
                    headers=_headers(request),
                    data=body or None,
                    allow_redirects=False,
                    server_hostname=request.extensions.get("sni_hostname"),
                    timeout=aiohttp.ClientTimeout(
                        connect=seconds.get("connect"), sock_read=seconds.get("read")
                    ),
                )
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                raise
            raise httpx2.WriteTimeout("the request could not be sent in time") from error

    async def close(self) -> None:
        """Closes every connection."""
        await self._session.close()


class _Body(httpx2.AsyncByteStream):
    """The body of a response; who stops reading it closes the connection."""

    def __init__(self, response: aiohttp.ClientResponse, on_close: Callable[[], None]) -> None:
        self._response = response
        self._on_close: Callable[[], None] | None = on_close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again
            _reraise(error)

    async def aclose(self) -> None:
        self._response.close()
        if self._on_close is not None:
            self._on_close()
            self._on_close = None


def _url(url: httpx2.URL) -> URL:
    """Returns the URL as it is encoded; what it says of a user is in the headers already."""
    bare = url.copy_with(userinfo=b"") if url.userinfo else url
    return URL(str(bare), encoded=True)


def _headers(request: httpx2.Request) -> list[tuple[str, str]]:
    chunked = b"transfer-encoding"  # aiohttp adds it when it chunks
    headers = [
        (name.decode("ascii"), value.decode())
        for name, value in request.headers.raw
        if name.lower() != chunked
    ]
    # Users' own instrumentation may have said it already.
    return headers if "traceparent" in request.headers else [*headers, *outgoing().items()]


def _body(request: httpx2.Request) -> bytes | AsyncIterable[bytes]:
    """Returns the body, in pieces when it is large or not there yet."""
    try:
        body = request.content
    except httpx2.RequestNotRead:
        assert isinstance(request.stream, httpx2.AsyncByteStream), "httpx2 has checked this"
        return request.stream
    return body if len(body) <= _PIECE_BYTES else _pieces(body)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


def _until_answered(seconds: Seconds) -> float | None:
    """Returns the seconds that all phases until the head of the answer may take together."""
    phases = [seconds.get(phase) for phase in ("connect", "write", "read")]
    return None if None in phases else sum(phase for phase in phases if phase is not None)


def _reraise(error: Exception) -> NoReturn:
    """Raises what `error` means in httpx2."""
    if isinstance(error, httpx2.RequestError):
        raise error
    if isinstance(error, aiohttp.ClientPayloadError) and isinstance(error.__cause__, OSError):
        raise httpx2.ReadError(str(error)) from error
    for found, meant in _MEANING:
        if isinstance(error, found):
            raise meant(str(error) or type(error).__name__) from error
    raise error
