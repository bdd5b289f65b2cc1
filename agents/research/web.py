"""Search on the web, by a service that the environment names."""

import asyncio
import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from pydantic import BaseModel, FiniteFloat, ValidationError

from research.result import Result, Search

TAVILY_URL = "https://api.tavily.com"
TIMEOUT_SECONDS = 10.0
EXCERPT_CHARACTERS = 1000


class WebSearchError(Exception):
    """The web cannot be searched; the message says why and what to do."""


class NotConfigured(WebSearchError):
    """The environment asks for a search that it does not say enough about."""


class SearchFailed(WebSearchError):
    """The service did not answer, or not with results."""


class _Hit(BaseModel):
    url: str
    title: str
    content: str
    score: FiniteFloat = 0.0


class _Answer(BaseModel):
    results: list[_Hit]


class Tavily:
    """Tavily's search API."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def search(self, query: str, limit: int) -> list[Result]:
        """Asks Tavily; raises `SearchFailed`."""
        asked = {"query": query, "max_results": limit, "search_depth": "basic"}
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._client.post("search", json=asked)
        except TimeoutError as error:
            raise SearchFailed(
                f"Tavily did not answer within {TIMEOUT_SECONDS:g} s; ask again later"
            ) from error
        except httpx2.RequestError as error:
            raise SearchFailed(
                f"Tavily cannot be reached ({type(error).__name__}); check the network, and"
                " TAVILY_BASE_URL if it is set"
            ) from error
        if response.status_code != httpx2.codes.OK:
            raise SearchFailed(_refusal(response.status_code))
        try:
            answer = _Answer.model_validate_json(response.content)
        except ValidationError as error:
            raise SearchFailed(
                f"what answers is no search of Tavily's ({error.error_count()} faults in its"
                " answer); check TAVILY_BASE_URL if it is set"
            ) from error
        return [
            Result(hit.url, hit.title, hit.content[:EXCERPT_CHARACTERS], hit.score)
            for hit in answer.results[:limit]
        ]


class DuckDuckGo:
    """DuckDuckGo, asked through the package `ddgs`."""

    def __init__(self, ddgs: Any) -> None:
        self._ddgs = ddgs

    async def search(self, query: str, limit: int) -> list[Result]:
        """Asks DuckDuckGo; raises `SearchFailed`."""
        return await asyncio.to_thread(self._search, query, limit)

    def _search(self, query: str, limit: int) -> list[Result]:
        client = self._ddgs.DDGS(timeout=int(TIMEOUT_SECONDS))
        try:
            hits = client.text(query, max_results=limit, backend="duckduckgo")
        except self._ddgs.exceptions.DDGSException as error:
            # It has the failure in it, or only a text where nothing went wrong and nothing fits.
            if not any(isinstance(cause, Exception) for cause in error.args):
                return []
            raise SearchFailed(f"DuckDuckGo did not answer: {error}; ask again later") from error
        return [
            Result(hit["href"], hit["title"], hit["body"][:EXCERPT_CHARACTERS], 1 / rank)
            for rank, hit in enumerate(hits[:limit], 1)
        ]


def is_configured() -> bool:
    """Returns whether `$AXON_SEARCH` names a service to search the web with."""
    return bool(os.environ.get("AXON_SEARCH"))


@asynccontextmanager
async def open_web() -> AsyncIterator[Search]:
    """Opens the search that `$AXON_SEARCH` names; raises `NotConfigured`."""
    service = os.environ.get("AXON_SEARCH", "")
    match service:
        case "tavily":
            async with _client() as client:
                yield Tavily(client)
        case "duckduckgo":
            yield DuckDuckGo(_ddgs())
        case _:
            raise NotConfigured(
                f"AXON_SEARCH is {service!r}, which is no search that this agent knows;"
                " set it to tavily or duckduckgo, or unset it to search the documents"
            )


def _client() -> httpx2.AsyncClient:
    key = os.environ.get("TAVILY_API_KEY", "").strip()
    if not key:
        raise NotConfigured(
            "the search with Tavily needs a key, and TAVILY_API_KEY is not set; set it, or unset"
            " AXON_SEARCH to search the documents"
        )
    if not (key.isascii() and key.isprintable()):
        # The client would tell the whole key in its error.
        raise NotConfigured("TAVILY_API_KEY has characters that no key has; set it anew")
    url = os.environ.get("TAVILY_BASE_URL") or TAVILY_URL
    try:
        return httpx2.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=None
        )
    except httpx2.InvalidURL as error:
        raise NotConfigured(
            f"TAVILY_BASE_URL is {url!r}, which is no address; correct it, or unset it"
        ) from error


def _ddgs() -> Any:
    try:
        importlib.import_module("ddgs.exceptions")
        return importlib.import_module("ddgs")
    except ModuleNotFoundError as error:
        raise NotConfigured(
            f"the search with DuckDuckGo needs the package ddgs ({error}); run `pip install ddgs`"
            " in the agent's environment, or unset AXON_SEARCH to search the documents"
        ) from error


def _refusal(status: int) -> str:
    match status:
        case 401 | 403:
            return f"Tavily refused the key ({status}); check TAVILY_API_KEY"
        case 429 | 432 | 433:
            return f"Tavily's limit for this key is reached ({status}); wait, or raise the limit"
        case _:
            return f"Tavily answered {status} and no results; ask again later"
