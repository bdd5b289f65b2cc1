"""What the model may do."""

from typing import Annotated

from pydantic import Field
from pydantic_ai import RunContext

from research.deps import ResearchDeps
from research.result import Result


async def search(
    ctx: RunContext[ResearchDeps], query: str, limit: Annotated[int, Field(ge=1, le=10)] = 4
) -> list[Result]:
    """Finds the sources that fit a query best, each with the passage that fits.

    Args:
        query: A few words that such a source has; not a sentence.
        limit: How many sources to find at most.
    """
    return await ctx.deps.search.search(query, limit)
