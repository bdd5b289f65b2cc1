"""A text cut into sentences."""

import re

# Whatever marks the next sentence's first word, such as a quotation mark, is in front of it.
_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\u201d\u2019])) (?=\W{0,2}[^\W_a-z])")


def sentences(text: str) -> list[str]:
    """Returns the sentences of one paragraph, with single spaces between their words."""
    return [sentence for sentence in _END.split(" ".join(text.split())) if sentence]
