"""What the searcher's functions get in `ctx.deps`, and how it is made from a caller's JSON."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import TypedDict

from research import web
from research.index import Index
from research.result import Search


class ResearchRequest(TypedDict, total=False):
    """What callers give, as `[deps] schema` in `agent.toml` says."""

    docs: str
    """A folder of documents; a relative one is looked for from the project's root."""


@dataclass(frozen=True)
class ResearchDeps:
    """Where to search."""

    search: Search


class NothingToSearch(LookupError):
    """The caller names no documents, and no search on the web is configured."""

    def __init__(self) -> None:
        super().__init__(
            "there is nothing to search: no folder of documents is named, and no search on the web;"
            " give the dep `docs` (--dep docs=FOLDER), or set AXON_SEARCH to tavily or duckduckgo"
        )


@asynccontextmanager
async def make(request: ResearchRequest | None) -> AsyncIterator[ResearchDeps]:
    """Opens the search of one run: of the web if that is configured, else of the documents."""
    if web.is_configured():
        async with web.open_web() as search:
            yield ResearchDeps(search)
        return
    docs = (request or {}).get("docs")
    if not docs:
        raise NothingToSearch
    with closing(await Index.open(Path(docs))) as index:
        yield ResearchDeps(index)
