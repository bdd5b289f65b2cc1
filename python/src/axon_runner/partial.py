"""Structured output while it is still being written."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_ai.messages import (
    AgentStreamEvent,
    FinalResultEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_core import from_json

_INTERVAL_SECONDS = 0.04


class PartialOutput:
    """Follows the part that holds the output and parses it at most every 40 ms.

    The part is the one that started last before pydantic-ai says `final_result`.
    """

    def __init__(self, *, text: bool) -> None:
        self._text = text
        self._loop = asyncio.get_running_loop()
        self._last: PartStartEvent | None = None
        self._index = -1
        self._pieces: list[str] = []
        self._due = 0.0
        self._said: Any = None

    def follow(self, event: AgentStreamEvent) -> Any | None:
        """Returns the output so far if `event` changed it and it is time to say so."""
        match event:
            case PartDeltaEvent() if event.index == self._index:
                return self._more(event)
            case PartStartEvent():
                self._last = event
                if event.index == self._index:
                    self._index = -1
            case FinalResultEvent() if self._last is not None:
                self._begin(event, self._last)
            case _:
                pass
        return None

    def _begin(self, event: FinalResultEvent, start: PartStartEvent) -> None:
        match start.part:
            case ToolCallPart(args=args) if event.tool_name is not None:
                self._pieces = [args] if isinstance(args, str) else []
            case TextPart(content=content) if event.tool_name is None and not self._text:
                self._pieces = [content]
            case _:
                return
        self._index = start.index

    def _more(self, event: PartDeltaEvent) -> Any | None:
        match event.delta:
            case ToolCallPartDelta(args_delta=str(piece)) | TextPartDelta(content_delta=piece):
                self._pieces.append(piece)
            case _:
                return None
        now = self._loop.time()
        if now < self._due:
            return None
        self._due = now + _INTERVAL_SECONDS
        self._pieces = ["".join(self._pieces)]
        try:
            value = from_json(
                self._pieces[0], allow_inf_nan=False, allow_partial="trailing-strings"
            )
        except ValueError:
            return None
        if value == self._said:
            return None
        self._said = value
        return value
