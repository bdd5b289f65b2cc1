"""The words of a text that say what it is about."""

import re

FUNCTION_WORDS = frozenset(
    """
    a about above after again all also although am an and any are aren as at be became because
    become been before being between both but by can compare could couldn describe did didn do
    does doesn doing don done during each either else ever every explain few first for from get
    gets give go had hadn happen happened happens has hasn have haven having he her here hers
    him his how however i if in into is isn it its itself just know like made make many may me
    might more most much must my neither nor not now of off often on once one only or other our
    out over own please same say she should show since so some such summarise summarize tell
    than that the their them themselves then there these they think this those though through to
    today together too under until up upon us use used uses versus very via vs want was wasn we
    were weren what whatever when where whether which while who whom whose why will with within
    without wonder would you your
    """.split()
)
"""Words that nearly every text has, or that only ask: they tell no text from another."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_SHORTENED = re.compile(r"['\u2019](?:s|t|re|ve|ll|d|m)$", re.IGNORECASE)


def content_words(text: str) -> list[str]:
    """Returns the words of `text` that say what it is about, in order, as they are written."""
    words = (_SHORTENED.sub("", word) for word in _WORD.findall(text))
    return [word for word in words if word.casefold() not in FUNCTION_WORDS]
