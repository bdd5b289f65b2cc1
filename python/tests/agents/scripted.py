"""A model that plays the script in the first user prompt: a JSON list of replies."""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai import exceptions as ai
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

FAILURES: dict[str, BaseException] = {
    "rate_limited": ai.ModelHTTPError.for_category(
        ai.ModelRateLimitError, status_code=429, model_name="scripted", retry_after=3.0
    ),
    "connection": ai.ModelConnectionError("scripted", "refused", phase="connect"),
    "bug": KeyError("a bug of the model"),
    "exit": SystemExit("the model exits"),
    "fallback": ai.FallbackExceptionGroup(
        "all failed", [ai.ModelOverloadedError("scripted", "busy")]
    ),
}


def reply(messages: list[ModelMessage], info: AgentInfo) -> dict[str, Any]:
    """Returns the step of the script that answers `messages`."""
    prompts = [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart) and isinstance(part.content, str)
    ]
    script = json.loads(next(p for p in prompts if p.startswith("[")))
    answered = sum(isinstance(message, ModelResponse) for message in messages)
    step: dict[str, Any] = script[min(answered, len(script) - 1)]
    if step.get("say") == "prompts":
        return {"text": json.dumps(prompts[1:])}
    if step.get("say") == "instructions":
        return {"text": str(info.instructions)}
    if step.get("say") == "schema":
        return {"text": json.dumps(info.function_tools[0].parameters_json_schema)}
    if step.get("say") == "output_schema":
        asked = info.model_request_parameters.output_object
        if asked is not None:
            named = f"{asked.name}: {asked.description}"
            print("output schema:", named, json.dumps(asked.json_schema), info.instructions)
            return {"text": json.dumps(step["args"])}
        print("output schema:", json.dumps(info.output_tools[0].parameters_json_schema))
        return {"calls": [["$output", step["args"], "out"]]}
    if step.get("say") == "settings":
        return {"text": json.dumps(info.model_settings)}
    return step


def parts(step: dict[str, Any], info: AgentInfo) -> list[TextPart | ToolCallPart]:
    """Returns the parts of a reply; `$output` names the output tool."""
    found: list[TextPart | ToolCallPart] = []
    if "text" in step:
        found.append(TextPart(step["text"]))
    for name, args, call_id in step.get("calls", []):
        tool = info.output_tools[0].name if name == "$output" else name
        found.append(ToolCallPart(tool, args, tool_call_id=call_id))
    return found


async def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Plays one step, whole."""
    step = reply(messages, info)
    if "fail" in step:
        raise FAILURES[step["fail"]]
    if "hang" in step:
        await hang()
    return ModelResponse(parts=parts(step, info))


async def stream(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Plays one step in pieces of eight characters."""
    step = reply(messages, info)
    if "fail" in step:
        raise FAILURES[step["fail"]]
    for index, part in enumerate(parts(step, info)):
        if isinstance(part, TextPart):
            for piece in pieces(part.content, step.get("piece", 8)):
                yield piece
            await until(step.get("until"))
            continue
        args = part.args if isinstance(part.args, str) else json.dumps(part.args)
        yield {index: DeltaToolCall(name=part.tool_name, tool_call_id=part.tool_call_id)}
        for piece in pieces(args):
            yield {index: DeltaToolCall(json_args=piece, tool_call_id=part.tool_call_id)}
            if "slowly" in step:
                await asyncio.sleep(0.05)
    if "hang" in step:
        yield "thinking"
        await hang()


async def until(file: str | None) -> None:
    """Waits until the file is there, if one is named."""
    while file is not None and not there(file):  # noqa: ASYNC110 - nothing tells when it appears
        await asyncio.sleep(0.01)


def there(file: str) -> bool:
    """Says whether the file is there."""
    return os.path.exists(file)


async def hang() -> None:
    """Waits for ever and says when it is cancelled, as a provider would see it."""
    try:
        logging.getLogger("scripted").info("hanging")
        await asyncio.Event().wait()
    finally:
        print("model connection closed")


def pieces(text: str, size: int = 8) -> list[str]:
    """Cuts `text`."""
    return [text[i : i + size] for i in range(0, len(text), size)] or [""]


model = FunctionModel(respond, stream_function=stream, model_name="offline")
named = "test"


def made() -> FunctionModel:
    """Makes the model."""
    return model


def exits() -> str:
    """Tries to end the process."""
    sys.exit("scripted:exits")


def waits() -> str:
    """Waits for a file before it says anything, and says so in another one."""
    with open(f"{os.environ['WAIT_FOR']}.begun", "w"):
        pass
    while not os.path.exists(os.environ["WAIT_FOR"]):
        time.sleep(0.01)
    return "Go on."


wrong = 42
