"""What the writer is told: the question, how many searches failed, and what the others found.

As text, which is how the pipeline hands it on:

    Question: How did lighthouses lose their keepers?
    1 of 3 searches failed.
    Findings:
    [{"query": "…", "findings": [{"source": "…", "title": "…", "quote": "…"}]}]

The second line is left out when none failed.
"""

import re
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

_FINDINGS = re.compile(r"^Findings:", re.MULTILINE)
_FAILED = re.compile(r"\n(\d{1,4}) of (\d{1,4}) searches failed\.\s*$")


@dataclass(frozen=True)
class Finding:
    """One passage that a search found, as the searcher's output has it."""

    source: str
    title: str
    quote: str


@dataclass(frozen=True)
class Searched:
    """The searcher's output."""

    query: str
    findings: list[Finding]


@dataclass(frozen=True)
class Briefing:
    """The writer's prompt, read."""

    question: str
    failed: int = 0
    """How many searches failed …"""
    searches: int = 0
    """… of how many there were; 0 if none failed."""
    searched: tuple[Searched, ...] = ()


_ALL_SEARCHED = TypeAdapter(tuple[Searched, ...])


def read(prompt: str) -> Briefing:
    """Reads the writer's prompt; one of another form is all question, and found nothing."""
    for heading in _FINDINGS.finditer(prompt):
        try:
            # Only from the right place is the rest JSON, even if the question has this line, too.
            searched = _ALL_SEARCHED.validate_json(prompt[heading.end() :])
        except ValidationError:
            continue
        above = prompt[: heading.start()]
        failed = _FAILED.search(above)
        return Briefing(
            _question(above[: failed.start()] if failed else above),
            failed=int(failed[1]) if failed else 0,
            searches=int(failed[2]) if failed else 0,
            searched=searched,
        )
    return Briefing(_question(prompt))


def _question(text: str) -> str:
    return text.strip().removeprefix("Question:").strip()
