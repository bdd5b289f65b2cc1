"""What a question asks about, as the queries of separate searches."""

import re

from research.words import content_words

MAX_TOPICS = 8
MAX_WORDS = 8
"""How many words of a topic a query has."""
MAX_CHARACTERS = 200

# Where one topic ends and the next may begin. A question word begins one, too.
_BETWEEN = re.compile(
    r"[.!?;:,\n]+"
    r"|\b(?:and|or|but|versus|vs|plus|besides|also)\b"
    r"|\b(?=(?:who|whom|whose|what|when|where|which|why|how)\b)",
    re.IGNORECASE,
)


def topics(question: str) -> list[str]:
    """Returns what the question asks about, in its order: 1 to 8 topics, each a few words."""
    found: dict[str, str] = {}
    for piece in _BETWEEN.split(question):
        if words := content_words(piece)[:MAX_WORDS]:
            topic = " ".join(words)[:MAX_CHARACTERS]
            found.setdefault(topic.casefold(), topic)
    return list(found.values())[:MAX_TOPICS] or [question.strip()[:MAX_CHARACTERS] or "anything"]
