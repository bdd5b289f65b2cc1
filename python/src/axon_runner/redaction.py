"""Keeps secrets out of everything the runner says about failures and logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MARK = "[redacted]"
_SHORTEST = 6


class Redactor:
    """Replaces every known secret of at least six characters."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(secrets)
        known = sorted({s for s in self._secrets if len(s) >= _SHORTEST}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    def also(self, secrets: Iterable[str]) -> Redactor:
        """Returns one that replaces these secrets, too."""
        more = self._secrets.union(secrets)
        return self if more == self._secrets else Redactor(more)

    def text(self, text: str) -> str:
        """Returns `text` without secrets, and without lone surrogates, which JSON cannot carry."""
        if not text.isascii():
            text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        return self._pattern.sub(MARK, text) if self._pattern else text

    def value(self, value: Any) -> Any:
        """Returns a JSON value without secrets in its strings and keys."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(k)): self.value(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(v) for v in value]
        return value
