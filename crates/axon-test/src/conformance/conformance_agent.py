"""The agent of the runner protocol's conformance suite: a model that obeys the prompt."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import exceptions as ai
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from axon_runner import Done, NotDone

CALLS = {
    "rust tool": [ToolCallPart("lookup", '{"key":"a"}', "call-1")],
    "rust tools": [
        ToolCallPart("lookup", '{"key":"a"}', "call-1"),
        ToolCallPart("lookup", '{"key":"b"}', "call-2"),
    ],
    "python tool": [ToolCallPart("add", '{"left":2,"right":3}', "call-1")],
    "once tool": [ToolCallPart("transfer", '{"amount":7}', "call-1")],
    "once tools": [
        ToolCallPart("transfer", '{"amount":7}', "call-1"),
        ToolCallPart("transfer", '{"amount":7}', "call-2"),
    ],
    "slow tool": [ToolCallPart("linger", "{}", "call-1")],
    "broken tool": [ToolCallPart("broken", "{}", "call-1")],
    "approval": [ToolCallPart("refund", '{"amount":7}', "call-1")],
}


def add(left: int, right: int) -> int:
    """Adds two numbers."""
    return left + right


def transfer(amount: int) -> str:
    """Transfers money."""
    return f"transferred {amount}"


def was_made(key: str, args: dict[str, Any]) -> Done:
    """Knows that a transfer was made."""
    return Done(transfer(args["amount"]))


def was_not_made(key: str, args: dict[str, Any]) -> NotDone:
    """Knows that it was not."""
    return NotDone()


async def cannot_tell(key: str, args: dict[str, Any]) -> None:
    """Knows nothing."""


def cannot_be_asked(key: str, args: dict[str, Any]) -> None:
    """Raises."""
    raise ValueError("the bank is closed")


def linger() -> str:
    """Takes three seconds, whatever happens meanwhile."""
    time.sleep(3)
    return "at last"


def broken() -> str:
    """Raises."""
    raise ValueError("the tool is broken")


def reply(messages: list[ModelMessage]) -> ModelResponse:
    """Returns what the prompt asks for, and after tool calls what they gave."""
    parts = [part for message in messages for part in message.parts]
    prompts = [part.content for part in parts if isinstance(part, UserPromptPart)]
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    results = [
        part.content
        for part in requests[-1].parts
        if isinstance(part, (ToolReturnPart, RetryPromptPart))
    ]
    if results:
        return ModelResponse([TextPart(f"The result is {' and '.join(map(str, results))}.")])
    if prompts[-1] == "fail":
        raise ai.ModelHTTPError.for_category(
            ai.ModelRateLimitError, status_code=429, model_name="conformance", retry_after=3.0
        )
    if prompts[-1] in CALLS:
        return ModelResponse(list(CALLS[str(prompts[-1])]))
    return ModelResponse([TextPart(f"You said {prompts[-1]}.")])


async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Answers whole."""
    response = reply(messages)
    if response.text == "You said hang.":
        await asyncio.Event().wait()
    return response


async def stream(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Answers in pieces."""
    for index, part in enumerate(reply(messages).parts):
        if isinstance(part, ToolCallPart):
            args = part.args_as_json_str()
            call_id = part.tool_call_id
            yield {index: DeltaToolCall(part.tool_name, json_args=args, tool_call_id=call_id)}
        elif isinstance(part, TextPart):
            for piece in part.content.partition(" "):
                yield piece
            if part.content == "You said hang.":
                await asyncio.Event().wait()


model = FunctionModel(respond, stream_function=stream, model_name="conformance")
