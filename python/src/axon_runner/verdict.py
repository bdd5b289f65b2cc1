"""What a `reconcile` function finds out about a tool call that was under way at a failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Done:
    """The call took effect; `result` is what it returned, or would have."""

    result: Any = None


@dataclass(frozen=True)
class NotDone:
    """The call did not take effect, and never will: it can be made again."""
