"""What this runner was asked and did not do, in the log: somebody may be trying doors."""

from __future__ import annotations

import logging
import time

_log = logging.getLogger(__name__)

_LATE = frozenset({409, 410})
_MINUTE = 60.0
_TOLD_PER_MINUTE = 60
_SHOWN_CHARS = 200


class Refusals:
    """Tells of refusals, of so many in each minute: whoever floods does not flood the log."""

    def __init__(self) -> None:
        self._minute = 0.0
        self._told = 0
        self._untold = 0

    def tell(self, status: int, request: str, message: str) -> None:
        """Tells that `request` was refused. That it came late is no alarm."""
        now = time.monotonic()
        if now - self._minute >= _MINUTE:
            self._minute, self._told = now, 0
            untold, self._untold = self._untold, 0
            if untold:
                _log.warning("%d more requests were refused", untold)
        if self._told >= _TOLD_PER_MINUTE:
            self._untold += 1
            return
        self._told += 1
        level = logging.INFO if status in _LATE else logging.WARNING
        fields = {"status": status, "request": request[:_SHOWN_CHARS]}
        _log.log(level, "refused a request: %s", message, extra=fields)
