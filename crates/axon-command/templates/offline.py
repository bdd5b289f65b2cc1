"""A stand-in for a language model, so that the agent answers without a key and a network."""

from collections.abc import AsyncIterator

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel


def _reply(messages: list[ModelMessage]) -> ToolCallPart | str:
    prompt, date = "", None
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                prompt, date = str(part.content), None
            elif isinstance(part, ToolReturnPart):
                date = part.model_response_str()
    if date is not None:
        return f"Today is {date}."
    if any(word in prompt.lower() for word in ("date", "day", "today")):
        return ToolCallPart("today", "{}", tool_call_id=f"offline_{len(messages)}")
    return f"You said: {prompt} I am an offline stand-in and only know what day it is."


async def _respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    part = _reply(messages)
    return ModelResponse(parts=[TextPart(part) if isinstance(part, str) else part])


async def _stream(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    part = _reply(messages)
    if isinstance(part, str):
        for word in part.split(" "):
            yield f"{word} "
    else:
        call = DeltaToolCall(
            part.tool_name, part.args_as_json_str(), tool_call_id=part.tool_call_id
        )
        yield {0: call}


model = FunctionModel(_respond, stream_function=_stream, model_name="offline")
