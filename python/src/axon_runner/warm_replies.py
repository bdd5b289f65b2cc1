"""What a provider would answer while a process warms up: it calls a tool, and then the output tool.

For each protocol the answer as a whole and as a stream, as short as its SDK reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx2

Json = dict[str, Any]
_CALL_ID = "call_warm"
_MODEL = "warm"


def transport(tool: str, args: Json, output: Json) -> httpx2.MockTransport:
    """Returns a provider that speaks as OpenAI and Anthropic do, and touches no network."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        whole, streamed = _PROTOCOLS[request.url.path.rpartition("/v1")[2]]
        others = [name for name in _names(body) if name != tool]
        called = _CALL_ID in request.content.decode()
        name, given = (others[0], output) if called else (tool, args)
        arguments = json.dumps(given)
        if not body.get("stream"):
            return httpx2.Response(200, json=whole(name, arguments))
        events = "".join(_event(event) for event in streamed(name, arguments))
        return httpx2.Response(
            200, headers={"content-type": "text/event-stream"}, content=events.encode()
        )

    return httpx2.MockTransport(answer)


def _event(event: Json | str) -> str:
    if isinstance(event, str):
        return f"data: {event}\n\n"
    kind = event.get("type")
    named = f"event: {kind}\n" if isinstance(kind, str) else ""
    return f"{named}data: {json.dumps(event)}\n\n"


def _chat(name: str, arguments: str) -> Json:
    call = {"id": _CALL_ID, "type": "function", "function": _function(name, arguments)}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    return {**_completion("chat.completion", choice), "usage": _CHAT_USAGE}


def _chat_stream(name: str, arguments: str) -> Iterable[Json | str]:
    for finish, text in ((None, ""), (None, arguments), ("tool_calls", None)):
        call: Json = {"index": 0, "function": {"arguments": text}}
        if text == "":
            call |= {"id": _CALL_ID, "type": "function", "function": _function(name, text)}
        delta = {} if text is None else {"role": "assistant", "tool_calls": [call]}
        choice = {"index": 0, "finish_reason": finish, "delta": delta}
        yield _completion("chat.completion.chunk", choice)
    yield {**_completion("chat.completion.chunk"), "usage": _CHAT_USAGE}
    yield "[DONE]"


def _function(name: str, arguments: str) -> Json:
    return {"name": name, "arguments": arguments}


def _completion(kind: str, *choices: Json) -> Json:
    return {"id": "c", "object": kind, "created": 1, "model": _MODEL, "choices": list(choices)}


_CHAT_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _responses(name: str, arguments: str) -> Json:
    return _response("completed", _item(name, arguments, "completed"))


def _responses_stream(name: str, arguments: str) -> Iterable[Json | str]:
    place = {"output_index": 0, "item_id": "fc_warm"}
    begun, done = _item(name, "", "in_progress"), _item(name, arguments, "completed")
    events: list[Json] = [
        {"type": "response.created", "response": _response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.function_call_arguments.delta", "delta": arguments, **place},
        {"type": "response.function_call_arguments.done", "arguments": arguments, **place}
        | {"name": name},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": _response("completed", done)},
    ]
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def _item(name: str, arguments: str, status: str) -> Json:
    call = {"id": "fc_warm", "call_id": _CALL_ID, "type": "function_call", "status": status}
    return call | _function(name, arguments)


def _response(status: str, *items: Json) -> Json:
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    }
    return {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": _MODEL,
        "status": status,
        "output": list(items),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if items else None,
    }


def _messages(name: str, arguments: str) -> Json:
    block = {"type": "tool_use", "id": _CALL_ID, "name": name, "input": json.loads(arguments)}
    return _message("tool_use", block)


def _messages_stream(name: str, arguments: str) -> Iterable[Json | str]:
    block = {"type": "tool_use", "id": _CALL_ID, "name": name, "input": {}}
    delta = {"type": "input_json_delta", "partial_json": arguments}
    yield {"type": "message_start", "message": _message(None)}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "tool_use", "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}


def _message(stop_reason: str | None, *content: Json) -> Json:
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": _MODEL,
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _names(body: Json) -> list[str]:
    return [tool.get("name") or tool["function"]["name"] for tool in body["tools"]]


_Whole = Callable[[str, str], Json]
_Streamed = Callable[[str, str], Iterable[Json | str]]

_PROTOCOLS: dict[str, tuple[_Whole, _Streamed]] = {
    "/chat/completions": (_chat, _chat_stream),
    "/responses": (_responses, _responses_stream),
    "/messages": (_messages, _messages_stream),
}
