"""JSON in and out, and the transcript, without a process."""

from __future__ import annotations

import math
from copy import copy

import pytest
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)

from axon_runner.decode import DecodeError, decode
from axon_runner.encode import EncodeError, encode
from axon_runner.redaction import Redactor
from axon_runner.transcript import Transcript


def nested(levels: int) -> bytes:
    """A list in a list in a list."""
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("body", [nested(64), b'{"a": "[[[["}', b'"x"', b"12345678901234567890123"])
def test_json_within_the_limits_is_decoded(body: bytes) -> None:
    decode(body, 64)


@pytest.mark.parametrize(
    "body",
    [
        nested(65),
        nested(100_000),
        b"NaN",
        b"[-Infinity]",
        b"1e999",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'{"a":{"b":1,"b":1}}',
        b"{} {}",
        b"'x'",
        b"\xef\xbb\xbf{}",
        b"[1,]",
        b"01",
    ],
)
def test_json_outside_the_limits_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(body, 64)


def looped() -> list[object]:
    """A list that contains itself."""
    loop: list[object] = []
    loop.append(loop)
    return loop


def deep(levels: int) -> object:
    """A value nested so many levels deep."""
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        {"a": -math.inf},
        "\ud800",
        object(),
        deep(65),
        looped(),
        {(1, object()): 1},
    ],
)
def test_value_that_json_cannot_carry_is_not_encoded(value: object) -> None:
    with pytest.raises(EncodeError):
        encode(value)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("NaN", b'"NaN"'),
        ({"a": [1, None, "é\n"]}, '{"a":[1,null,"é\\n"]}'.encode()),
        (b"\x00\xff", b'"AP8="'),
        (deep(2), b'{"a":{"a":1}}'),
        (10**30, b"1" + b"0" * 30),
    ],
)
def test_other_values_are_encoded(value: object, data: bytes) -> None:
    assert encode(value) == data


def prompt(content: str) -> ModelRequest:
    """A request."""
    return ModelRequest(parts=[UserPromptPart(content)])


def reply(content: str) -> ModelResponse:
    """A response."""
    return ModelResponse(parts=[TextPart(content)])


def apply(recorded: list[bytes], change: tuple[int, list[bytes]]) -> list[ModelMessage]:
    """What a recording side does with a checkpoint."""
    base, tail = change
    recorded[base:] = tail
    return ModelMessagesTypeAdapter.validate_json(b"[" + b",".join(recorded) + b"]")


def test_checkpoints_add_up_to_the_messages_whatever_changes() -> None:
    one, two = list[ModelMessage]([prompt("1"), reply("2")])
    three = prompt("3")
    transcript, recorded = Transcript([]), list[bytes]()

    assert apply(recorded, transcript.advance([one, two])) == [one, two]
    three.instructions = None
    assert apply(recorded, transcript.advance([one, two, three])) == [one, two, three]
    three.instructions = "filled in when it was sent"
    four = reply("4")
    base, tail = transcript.advance([one, two, three, four])
    assert (base, len(tail)) == (2, 2)
    assert apply(recorded, (base, tail)) == [one, two, three, four]
    compacted: list[ModelMessage] = [prompt("summary"), four]
    assert apply(recorded, transcript.advance(compacted)) == compacted


def test_unchanged_history_is_never_sent_back() -> None:
    history: list[ModelMessage] = [prompt("1"), reply("2")]
    transcript = Transcript(history)
    base, tail = transcript.advance([*history, prompt("3")])

    assert (base, len(tail)) == (2, 1)
    assert transcript.added() == tail
    resumed = copy(history[1])
    assert transcript.advance([history[0], resumed])[0] == 1


def test_message_with_a_number_that_is_not_finite_is_refused() -> None:
    message = ModelRequest(parts=[ToolReturnPart("t", {"x": math.nan}, tool_call_id="c")])
    with pytest.raises(EncodeError):
        Transcript([]).advance([message])


def test_longer_secrets_are_redacted_before_those_they_contain() -> None:
    redactor = Redactor(["abcdef", "abcdefghi", "tiny", ""])

    assert redactor.text("x abcdefghi y abcdef tiny") == "x [redacted] y [redacted] tiny"
    assert redactor.value({"abcdef": ["abcdef", 1, None]}) == {
        "[redacted]": ["[redacted]", 1, None]
    }
