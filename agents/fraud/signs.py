"""What in a customer's message points to fraud, for the offline models of the bank."""

import re

_SOMEBODY = r"(?:some(?:one|body)(?: else)?|a (?:stranger|thief)|they|he|she|hackers?|criminals?)"
_NOT_I = r"\b(?:I|we) (?:never|did(?:n['\u2019]t| not)|have(?:n['\u2019]t| not| never))"

_USED_BY_OTHERS = re.compile(
    rf"\b{_SOMEBODY} (?:\w+ ){{0,2}}(?:us(?:ed|es|ing)|pa(?:id|ys|ying)|b(?:ought|uys|uying)"
    r"|sp(?:ent|ending)|shop(?:s|ped|ping)|charg(?:ed|es|ing))\b.{0,40}\b(?:my|our) card\b"
    r"|\bmy card (?:was|has been|is being|got) (?:used|cloned|copied|skimmed|charged)\b",
    re.IGNORECASE,
)
_EVERYTHING_GONE = re.compile(
    r"\ball (?:of )?(?:my|our) (?:money|savings)\b|\bevery (?:cent|penny)\b|\blife savings\b"
    r"|\b(?:empt(?:ied|ying)|clean(?:ed|ing) out|clear(?:ed|ing) out|drain(?:ed|ing))\b"
    r".{0,30}\baccounts?\b|\baccounts? (?:is|was|has been|are) (?:now )?(?:emptied|empty|drained)\b"
    r"|\b(?:tens|hundreds) of thousands\b",
    re.IGNORECASE,
)
_OTHER_SIGN = re.compile(
    r"\bfraud|\bscam|\bphish|\bhack|\bunauthori[sz]ed\b|\bidentity theft\b"
    rf"|{_NOT_I} (?:been|make|made|authori[sz]ed?|approve|buy|bought|order(?:ed)?|pa(?:y|id))\b"
    r"|(?:\bnot|n['\u2019]t|\bnever) (?:recogni[sz]e|know)\b.{0,40}\b(?:payment|charge|transaction)"
    r"|\b(?:unknown|strange|suspicious|unexplained)\b.{0,20}"
    r"\b(?:payment|charge|transaction|e-?mail|call|message|text|link)"
    r"|\b(?:stole|stolen|took|taken)\b.{0,20}\bmoney\b|\bmoney\b.{0,20}\b(?:stolen|gone|missing)\b",
    re.IGNORECASE,
)


def card_was_used(message: str) -> bool:
    """Returns whether the customer says that somebody else used the card."""
    return _USED_BY_OTHERS.search(message) is not None


def everything_is_gone(message: str) -> bool:
    """Returns whether the customer says that all of the money, or very much of it, is gone."""
    return _EVERYTHING_GONE.search(message) is not None


def is_fraud(message: str) -> bool:
    """Returns whether the message is for the fraud desk."""
    return (
        card_was_used(message)
        or everything_is_gone(message)
        or _OTHER_SIGN.search(message) is not None
    )
