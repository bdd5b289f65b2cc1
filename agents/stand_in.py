"""What the offline models of these agents have in common: a function plays a language model.

The function reads the conversation and says what comes next; here that is spoken as a model would,
whole or word by word. So agents answer without a key and without a network, and the same
conversation always gives the same answer.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

SECONDS_PER_WORD = 0.01
"""How fast the model talks when it streams, so that there is a stream to see."""

Reply = ToolCallPart | str
"""The one tool call, or the text, that a model says next."""


def stand_in(reply: Callable[[Sequence[ModelMessage], AgentInfo], Reply]) -> FunctionModel:
    """Returns a model that says what `reply` decides."""

    async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        part = reply(messages, info)
        return ModelResponse(parts=[TextPart(part) if isinstance(part, str) else part])

    async def stream(
        messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | DeltaToolCalls]:
        part = reply(messages, info)
        if isinstance(part, str):
            async for chunk in _words(part):
                yield chunk
            return
        yield {0: DeltaToolCall(name=part.tool_name, tool_call_id=part.tool_call_id)}
        async for chunk in _words(part.args_as_json_str()):
            yield {0: DeltaToolCall(json_args=chunk)}

    return FunctionModel(respond, stream_function=stream, model_name="offline")


def call(name: str, args: Mapping[str, object], messages: Sequence[ModelMessage]) -> ToolCallPart:
    """Returns a call whose id is the same whenever the same conversation is replayed."""
    args_json = json.dumps(args, ensure_ascii=False)
    return ToolCallPart(name, args_json, tool_call_id=f"offline_{len(messages)}_{name}")


def answer(
    output: Mapping[str, object], text: str, messages: Sequence[ModelMessage], info: AgentInfo
) -> Reply:
    """Returns `output` in the way that the agent asks for it, `text` if it asks for none."""
    if info.output_tools:
        return call(info.output_tools[0].name, output, messages)
    if info.model_request_parameters.output_object is not None:
        return json.dumps(output, ensure_ascii=False)
    return text


def offers(info: AgentInfo, tool: str) -> bool:
    """Returns whether the agent has this tool for its model."""
    return any(offered.name == tool for offered in info.function_tools)


def prompt_text(part: UserPromptPart) -> str:
    """Returns what the user said, without images and the like."""
    if isinstance(part.content, str):
        return part.content
    return " ".join(item for item in part.content if isinstance(item, str))


def last_prompt(messages: Sequence[ModelMessage]) -> str:
    """Returns what the user said last."""
    prompts = (
        part for message in messages for part in message.parts if isinstance(part, UserPromptPart)
    )
    return "".join(prompt_text(part) for part in list(prompts)[-1:])


async def _words(text: str) -> AsyncIterator[str]:
    for word in re.findall(r"\S*\s*", text):
        if word:
            yield word
            await asyncio.sleep(SECONDS_PER_WORD)
