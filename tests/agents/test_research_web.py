"""Search on the web, against a server of the test's own."""

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from research import web
from research.deps import NothingToSearch, ResearchRequest, make
from research.folder import FolderMissing
from research.result import Result
from research.web import NotConfigured, SearchFailed

KEY = "tvly-secret"
HITS = {
    "query": "lighthouses",
    "results": [
        {
            "url": "https://a.example/1",
            "title": "One",
            "content": "First.",
            "score": 0.9,
            "x": None,
        },
        {"url": "https://a.example/2", "title": "Two", "content": "Second. " * 500, "score": 0.5},
        {"url": "https://a.example/3", "title": "Three", "content": "Third."},
    ],
}


@dataclass
class Service:
    """What the server answers, and what it was asked."""

    status: int = 200
    body: bytes = field(default_factory=lambda: json.dumps(HITS).encode())
    release: threading.Event | None = None
    """If set, the server answers only after it."""
    url: str = ""
    asked: list[tuple[str, str | None, Any]] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((self.path, self.headers.get("Authorization"), body))
                if service.release is not None:
                    service.release.wait(timeout=30)
                    return
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.body)))
                self.end_headers()
                self.wfile.write(service.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        return Handler


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), made.handler())
    server.daemon_threads = False  # so that closing waits for the last answer
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AXON_SEARCH", "tavily")
    monkeypatch.setenv("TAVILY_API_KEY", KEY)
    monkeypatch.setenv("TAVILY_BASE_URL", made.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    if made.release is not None:
        made.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


def search(
    query: str = "lighthouses", limit: int = 4, request: ResearchRequest | None = None
) -> list[Result]:
    async def go() -> list[Result]:
        async with make(request) as deps:
            return await deps.search.search(query, limit)

    return asyncio.run(go())


def test_tavily_is_asked_with_the_key_and_its_hits_are_results(service: Service) -> None:
    results = search(limit=2)
    assert results[0] == Result("https://a.example/1", "One", "First.", 0.9)
    assert [result.title for result in results] == ["One", "Two"]
    assert len(results[1].excerpt) == web.EXCERPT_CHARACTERS
    [(path, authorization, body)] = service.asked
    assert path == "/search"
    assert authorization == f"Bearer {KEY}"
    assert body == {"query": "lighthouses", "max_results": 2, "search_depth": "basic"}


def test_a_hit_needs_no_score(service: Service) -> None:
    assert search()[2] == Result("https://a.example/3", "Three", "Third.", 0.0)


def test_the_base_url_may_have_a_path(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAVILY_BASE_URL", f"{service.url}/proxy/tavily/")
    search()
    assert service.asked[0][0] == "/proxy/tavily/search"


def test_the_web_is_searched_instead_of_documents_that_are_named_too(service: Service) -> None:
    assert search(request={"docs": "nowhere"})[0].source == "https://a.example/1"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, r"refused the key \(401\); check TAVILY_API_KEY"),
        (403, "refused the key"),
        (429, "limit for this key is reached"),
        (432, "limit for this key is reached"),
        (500, "answered 500 and no results; ask again later"),
        (302, "answered 302"),
    ],
)
def test_refusals_say_what_to_do_and_do_not_tell_the_key(
    service: Service, status: int, says: str
) -> None:
    service.status = status
    with pytest.raises(SearchFailed, match=says) as failure:
        search()
    assert KEY not in str(failure.value)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"[]",
        b'{"results": [{"url": 5}]}',
        b"\xff",
        b'{"results": null}',
        b'{"results": [{"url": "u", "title": "t", "content": "c", "score": 1e999}]}',
    ],
)
def test_an_answer_that_is_none_of_tavilys_is_refused(service: Service, body: bytes) -> None:
    service.body = body
    with pytest.raises(SearchFailed, match=r"no search of Tavily's.*check TAVILY_BASE_URL"):
        search()


def test_a_service_that_does_not_answer_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 0.1)
    service.release = threading.Event()
    with pytest.raises(SearchFailed, match=r"did not answer within 0\.1 s"):
        search()


def test_a_service_that_hangs_up_is_told(service: Service) -> None:
    service.release = threading.Event()
    service.release.set()
    with pytest.raises(SearchFailed, match=r"cannot be reached \(\w+\); check the network"):
        search()


def test_a_service_that_is_not_there_is_told(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("TAVILY_BASE_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(SearchFailed, match=r"cannot be reached \(ConnectError\)"):
        search()


@pytest.mark.parametrize("key", ["", " ", "two\nlines", "kéy"])
def test_a_key_that_is_none_is_refused_before_anything_is_sent(
    service: Service, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", key)
    with pytest.raises(NotConfigured, match="TAVILY_API_KEY") as refusal:
        search()
    assert not key.strip() or key not in str(refusal.value)
    assert service.asked == []


def test_a_newline_behind_the_key_is_no_part_of_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", f"{KEY}\n")
    search()
    assert service.asked[0][1] == f"Bearer {KEY}"


@pytest.mark.parametrize("url", ["http://[", "nonsense", "ftp://127.0.0.1"])
def test_a_base_url_that_is_none_is_named(
    service: Service, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TAVILY_BASE_URL", url)
    with pytest.raises((NotConfigured, SearchFailed), match="TAVILY_BASE_URL"):
        search()


def test_an_unknown_service_is_told_which_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXON_SEARCH", "gopher")
    with pytest.raises(NotConfigured, match=r"'gopher'.*set it to tavily or duckduckgo"):
        search()


def test_without_documents_and_without_the_web_there_is_nothing_to_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AXON_SEARCH", "")
    empty: list[ResearchRequest | None] = [None, {}, {"docs": ""}]
    for request in empty:
        with pytest.raises(NothingToSearch, match="--dep docs=FOLDER"):
            search(request=request)


def test_documents_are_searched_where_no_web_is_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AXON_SEARCH", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.md").write_text("# Lights\n\nLighthouses shine.")
    assert search(request={"docs": "."})[0].source == "note.md"
    with pytest.raises(FolderMissing):
        search(request={"docs": "nowhere"})


class DDGSError(Exception):
    """Plays `ddgs.exceptions.DDGSException`."""


@pytest.fixture
def ddgs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Plays the package `ddgs`, whose client does what `answers` of it holds."""

    class DDGS:
        def __init__(self, timeout: int) -> None:
            self.timeout = timeout

        def text(self, query: str, *, max_results: int, backend: str) -> Any:
            package.__dict__["asked"].append((query, max_results, backend, self.timeout))
            answer = package.__dict__["answer"]
            if isinstance(answer, Exception):
                raise answer
            return answer

    package, exceptions = ModuleType("ddgs"), ModuleType("ddgs.exceptions")
    exceptions.__dict__["DDGSException"] = DDGSError
    package.__dict__.update(DDGS=DDGS, exceptions=exceptions, asked=[], __path__=[])
    monkeypatch.setitem(sys.modules, "ddgs", package)
    monkeypatch.setitem(sys.modules, "ddgs.exceptions", exceptions)
    monkeypatch.setenv("AXON_SEARCH", "duckduckgo")
    return package


def test_duckduckgo_is_asked_through_its_package(ddgs: ModuleType) -> None:
    hits = [{"href": f"https://b.example/{n}", "title": str(n), "body": "Text."} for n in range(3)]
    ddgs.__dict__["answer"] = hits
    results = search(limit=2)
    assert results == [
        Result("https://b.example/0", "0", "Text.", 1.0),
        Result("https://b.example/1", "1", "Text.", 0.5),
    ]
    assert ddgs.__dict__["asked"] == [("lighthouses", 2, "duckduckgo", 10)]


def test_duckduckgo_may_find_nothing(ddgs: ModuleType) -> None:
    ddgs.__dict__["answer"] = DDGSError("No results found.")
    assert search() == []


def test_a_failure_of_duckduckgo_is_told(ddgs: ModuleType) -> None:
    ddgs.__dict__["answer"] = DDGSError(OSError("connection refused"))
    with pytest.raises(SearchFailed, match="DuckDuckGo did not answer: connection refused"):
        search()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXON_SEARCH", "duckduckgo")
    monkeypatch.setitem(sys.modules, "ddgs", None)
    with pytest.raises(NotConfigured, match="pip install ddgs"):
        search()
