"""The changes of libraries: they change nothing but the cost, or they are not made."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import anyio
import openai._utils._transform
import pytest
from openai import NOT_GIVEN, omit
from openai.types.chat import completion_create_params
from pydantic_ai import _utils, models, result
from pydantic_ai.exceptions import UserError
from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer
from pydantic_ai.tools import ToolDefinition
from typing_extensions import TypedDict

from axon_runner import patches
from axon_runner.patches.patch import Patch, Unfit, at_once
from axon_runner.patches.plain_request import PLAIN_REQUEST
from axon_runner.patches.stream_locks import STREAM_LOCKS
from axon_runner.patches.tool_schemas import TOOL_SCHEMAS

_TRANSFORM: Any = openai._utils._transform
_CHAT = completion_create_params.CompletionCreateParamsNonStreaming


@pytest.fixture
def module() -> types.ModuleType:
    """A module like the SDK's, that a test may change."""
    copy = types.ModuleType("transform")
    vars(copy).update(vars(_TRANSFORM))
    return copy


class Renamed(TypedDict, total=False):
    """A request with a key that is called otherwise on the wire."""

    card_id: Annotated[str, _TRANSFORM.PropertyInfo(alias="cardID")]


class Nested(TypedDict, total=False):
    """A request that has such a key somewhere inside."""

    cards: list[Renamed]


class Dated(TypedDict, total=False):
    """A request with a date."""

    at: Annotated[datetime, _TRANSFORM.PropertyInfo(format="iso8601")]


@pytest.mark.parametrize(
    ("expected_type", "data", "sent"),
    [
        (_CHAT, {"model": "m", "messages": []}, {"model": "m", "messages": []}),
        (_CHAT, {"model": "m", "user": omit, "stop": NOT_GIVEN}, {"model": "m"}),
        (_CHAT, {"metadata": {"a": omit, "b": "1"}}, {"metadata": {"a": omit, "b": "1"}}),
        (Renamed, {"card_id": "1"}, {"cardID": "1"}),
        (Nested, {"cards": [{"card_id": "1"}]}, {"cards": [{"cardID": "1"}]}),
        (Dated, {"at": datetime(2026, 1, 1, tzinfo=UTC)}, {"at": "2026-01-01T00:00:00+00:00"}),
        (Dated, {"at": "2026"}, {"at": "2026"}),
    ],
)
def test_request_is_sent_as_the_sdk_would_send_it(
    module: Any, expected_type: Any, data: Any, sent: Any
) -> None:
    theirs = at_once(module.async_transform(data, expected_type))
    PLAIN_REQUEST.install(module)
    assert at_once(module.async_transform(data, expected_type)) == theirs == sent


def test_plain_request_is_not_walked_through(module: Any) -> None:
    walked: list[Any] = []
    original = module.async_transform

    async def async_transform(data: Any, expected_type: Any) -> Any:
        walked.append(data)
        return await original(data, expected_type)

    module.async_transform = async_transform
    PLAIN_REQUEST.install(module)
    walked.clear()
    data = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    assert at_once(module.async_transform(data, _CHAT)) == data
    assert walked == []


async def _with_more(data: Any, expected_type: Any) -> Any:
    return {**data, "more": 1}


async def _other(data: Any, kind: Any) -> Any:
    return data


@pytest.mark.parametrize("changed", [_with_more, _other])
def test_sdk_that_does_something_else_is_left_alone(module: Any, changed: Any) -> None:
    module.async_transform = changed
    with pytest.raises(Unfit):
        PLAIN_REQUEST.install(module)
    assert module.async_transform is changed


def patch(**changes: Any) -> Patch:
    """A patch of a library that is there."""
    made = {
        "name": "p",
        "module": "pydantic_ai.result",
        "distribution": "pydantic-ai-slim",
        "tried": ((2, 60), (3,)),
        "install": lambda module: None,
    }
    return Patch(**{**made, **changes})


def broken(module: Any) -> None:
    raise AttributeError("no such thing")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "on"),
        ({"tried": ((1,), (2,))}, "off: it was not tried with pydantic-ai-slim 2."),
        ({"tried": ((9,), (10,))}, "off: it was not tried with pydantic-ai-slim 2."),
        ({"install": broken}, "off: AttributeError: no such thing"),
    ],
)
def test_patch_tells_why_it_is_off(changes: Any, state: str) -> None:
    assert patch(**changes).apply().startswith(state)


@pytest.fixture
def no_patches(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is known yet of any patch."""
    monkeypatch.setattr(patches, "_found", {})
    return monkeypatch


def test_patch_waits_for_its_library(no_patches: pytest.MonkeyPatch) -> None:
    no_patches.setattr(patches, "_ALL", (patch(module="nobody.imports_this"), patch(name="q")))
    patches.apply()
    assert patches.found() == {"q": "on"}


def test_patch_that_is_off_is_logged_once(
    no_patches: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    no_patches.setattr(patches, "_ALL", (patch(install=broken), patch(module="nobody")))
    patches.apply()
    patches.apply()
    assert [record.getMessage() for record in caplog.records] == [
        "the patch p is off: AttributeError: no such thing"
    ]


@pytest.fixture
def stream_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch, for one test."""
    source: Any = _utils.PeekableAsyncStream
    for patched in (result.AgentStream, source):
        monkeypatch.setattr(patched, "__init__", patched.__init__)
    STREAM_LOCKS.install(result)


@pytest.mark.usefixtures("stream_locks")
def test_stream_takes_its_lock_without_yielding() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def main() -> list[int]:
        stream: Any = _utils.PeekableAsyncStream(numbers())
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            found = [number async for number in stream]
            assert others == 0
            group.cancel_scope.cancel()
        return found

    assert anyio.run(main) == [0, 1, 2]


def test_stream_with_other_locks_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Source:
        def __init__(self, source: Any) -> None:
            self._source_lock = object()

    monkeypatch.setattr(_utils, "PeekableAsyncStream", Source)
    before: Any = result.AgentStream.__init__
    with pytest.raises(Unfit):
        STREAM_LOCKS.install(result)
    assert before is result.AgentStream.__init__


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0}},
    "required": ["a"],
}


@pytest.fixture
def tool_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch, for one test."""
    module: Any = models
    for name in ("_customize_tool_def", "_customize_output_object"):
        monkeypatch.setattr(module, name, getattr(module, name))
    TOOL_SCHEMAS.install(module)


def fitted(**schema: Any) -> ToolDefinition:
    """A tool as it is fitted to a model of OpenAI."""
    module: Any = models
    tool = ToolDefinition(name="t", parameters_json_schema={**SCHEMA, **schema})
    made: ToolDefinition = module._customize_tool_def(OpenAIJsonSchemaTransformer, tool)
    return made


@pytest.mark.usefixtures("tool_schemas")
def test_schema_that_somebody_changes_is_fitted_as_before() -> None:
    first = fitted()
    expected = {**first.parameters_json_schema}
    first.parameters_json_schema.clear()
    second = fitted()
    second.parameters_json_schema.clear()
    assert fitted().parameters_json_schema == expected
    assert fitted().strict is first.strict


@pytest.mark.usefixtures("tool_schemas")
@pytest.mark.parametrize("title", ["t", float("nan"), (1, 2), b"x"])
def test_every_schema_is_fitted_as_pydantic_ai_does(title: Any) -> None:
    tool = ToolDefinition(name="t", parameters_json_schema={**SCHEMA, "examples": title})
    transformed = OpenAIJsonSchemaTransformer(tool.parameters_json_schema, strict=None).walk()
    for _ in range(2):
        assert fitted(examples=title).parameters_json_schema == transformed


@pytest.mark.usefixtures("tool_schemas")
def test_schema_that_is_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="Tool 't'"):
            fitted(properties={"a": 5})
