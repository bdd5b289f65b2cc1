"""Sends plain data as it is, where the SDK of OpenAI walks through every request by type.

The walk renames keys that have an alias, writes out dates, reads files, dumps models and leaves out
what is not given. Dicts, lists, text and numbers have none of these but keys, so where no type of a
request has an alias, such data comes out as it went in.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from axon_runner.patches.patch import Patch, Unfit, alike, at_once, unchanged

_PLAIN = frozenset({str, int, float, bool, type(None)})


class _PlainRequest:
    """Stands in for `async_transform` of the SDK."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._walk = module.async_transform
        self._keeps_keys: dict[Any, bool] = {}

    async def async_transform(self, data: Any, expected_type: Any) -> Any:
        """Returns what is sent for `data`."""
        if type(data) is dict and self.keeps_keys(expected_type):
            is_given = self._module.is_given
            given = {key: value for key, value in data.items() if is_given(value)}
            if all(map(_plain, given.values())):
                return given
        return await self._walk(data, expected_type)

    def keeps_keys(self, expected_type: Any) -> bool:
        """Says whether every key of a request is called on the wire what it is called here."""
        keeps = self._keeps_keys.get(expected_type)
        if keeps is None:
            keeps = self._module.is_typeddict(expected_type)
            keeps = keeps and not self._renames(expected_type, set())
            self._keeps_keys[expected_type] = keeps
        return keeps

    def _renames(self, annotation: Any, seen: set[int]) -> bool:
        if id(annotation) in seen:
            return False
        seen.add(id(annotation))
        if get_origin(annotation) is Annotated:
            names = (getattr(note, "alias", None) for note in annotation.__metadata__)
            if any(name is not None for name in names):
                return True
        inner = list(get_args(annotation))
        if self._module.is_typeddict(annotation):
            inner.extend(self._module.get_type_hints(annotation, include_extras=True).values())
        return any(self._renames(each, seen) for each in inner)


def _plain(value: Any) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is dict:
        return all(map(_plain, value.values()))
    return kind is list and all(map(_plain, value))


def _install(module: Any) -> None:
    from openai import omit
    from openai.types.chat import ChatCompletionMessage, completion_create_params
    from openai.types.responses import response_create_params

    unchanged(module.async_transform, "data", "expected_type")
    ours = _PlainRequest(module)
    message = ChatCompletionMessage(role="assistant", content="Hello")
    chat = completion_create_params.CompletionCreateParamsNonStreaming
    responses = response_create_params.ResponseCreateParamsNonStreaming
    for expected_type, data in (
        (chat, _CHAT),
        (chat, {**_CHAT, "user": omit, "metadata": {"a": omit}, "messages": [message]}),
        (responses, _RESPONSES),
    ):
        theirs = at_once(module.async_transform(data, expected_type))
        alike(at_once(ours.async_transform(data, expected_type)), theirs)
    if not (ours.keeps_keys(chat) and ours.keeps_keys(responses)):
        raise Unfit("a request has aliases")
    module.async_transform = ours.async_transform


_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "t", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "t", "parameters": _SCHEMA, "strict": True}}
    ],
    "tool_choice": "required",
    "temperature": 0.2,
    "stop": ["end"],
    "stream_options": {"include_usage": True},
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "o", "schema": _SCHEMA, "strict": True},
    },
}
_RESPONSES: dict[str, Any] = {
    "model": "m",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {"type": "function_call", "call_id": "c", "name": "t", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ],
    "tools": [{"type": "function", "name": "t", "parameters": _SCHEMA, "strict": True}],
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "json_schema", "name": "o", "schema": _SCHEMA, "strict": True}},
}

PLAIN_REQUEST = Patch(
    name="plain_request",
    module="openai._utils._transform",
    distribution="openai",
    tried=((3, 40), (4,)),
    install=_install,
)
"""A quarter of the CPU of a model request."""
