"""What a search finds, wherever it looks."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Result:
    """One document or page that fits a query."""

    source: str
    """The document's path within its folder, or the page's address."""
    title: str
    excerpt: str
    """The passage that fits best, in the source's own words."""
    score: float
    """How well it fits: higher is better, and comparable within one search only."""


class Search(Protocol):
    """Somewhere to search."""

    async def search(self, query: str, limit: int) -> list[Result]:
        """Returns at most `limit` results, the best first, none if nothing fits."""
        ...
