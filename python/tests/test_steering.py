"""Messages to a live attempt: each that is taken is recorded once, or told as lost."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from harness import Json, Runner, Stream
from support import PENDING, call, python, request, rust, spec, text

ARGS: Json = {"include_pending": True}
PRIORITIES = pytest.mark.parametrize("priority", ["asap", "when_idle"])


def delivered(stream: Stream) -> list[list[str]]:
    """What each checkpoint delivers."""
    return [event.data["delivered"] for event in stream.all("checkpoint")]


def every(stream: Stream) -> list[str]:
    """What all checkpoints deliver."""
    return [message_id for some in delivered(stream) for message_id in some]


def recorded(stream: Stream, content: str) -> list[int]:
    """The places of the recorded messages that have `content`."""
    messages = stream.recorded()
    return [i for i, m in enumerate(messages) if content in [p.get("content") for p in m["parts"]]]


@PRIORITIES
def test_message_during_a_tool_is_delivered(shared: Runner, priority: str) -> None:
    script = [call("balance", ARGS), text("first"), {"say": "prompts"}]
    stream = shared.start(request(script, spec(rust())))
    asked = stream.until("tool_request")
    assert shared.steer(stream, "hurry", priority=priority).status == 202
    stream.answer(asked, content=1)
    done = stream.finish()

    assert done.kind == "attempt_completed"
    assert every(stream) == ["m1"]
    assert done.data["undelivered"] == []
    # The model answers the message; one that waits until it is idle costs one request more.
    assert recorded(stream, "hurry") == [3 if priority == "asap" else 4]
    assert done.data["usage"]["requests"] == (2 if priority == "asap" else 3)


@PRIORITIES
def test_message_while_the_last_answer_streams_keeps_the_run_going(
    shared: Runner, tmp_path: Path, priority: str
) -> None:
    file = tmp_path / "go"
    script = [call("balance", ARGS), {**text("first"), "until": str(file)}, {"say": "prompts"}]
    stream = shared.start(request(script, spec(rust())))
    asked = stream.until("tool_request")
    stream.answer(asked, content=1)
    while stream.until("part_start").data["part"]["part_kind"] != "text":
        pass
    assert shared.steer(stream, "hurry", priority=priority).status == 202
    file.touch()
    done = stream.finish()

    assert done.data["output"] == '["hurry"]'
    assert delivered(stream) == [[], [], ["m1"], []]
    assert [event.data["before"] for event in stream.all("checkpoint")] == [
        "tools",
        "model",
        "model",
        "end",
    ]


@PRIORITIES
def test_message_before_there_is_a_run_waits_for_it(
    shared: Runner, tmp_path: Path, priority: str
) -> None:
    file = tmp_path / "go"
    agent = spec(deps_factory="deps:waits")
    script = [text("first") if priority == "when_idle" else {"say": "prompts"}, {"say": "prompts"}]
    stream = shared.start(request(script, agent, deps=str(file)))
    stream.until("attempt_started")
    assert shared.steer(stream, "hurry", priority=priority).status == 202
    file.touch()
    done = stream.finish()

    assert done.data["output"] == '["hurry"]'
    assert every(stream) == ["m1"]


def test_message_before_a_run_that_never_begins_is_told_as_lost(
    shared: Runner, tmp_path: Path
) -> None:
    stream = shared.start(
        request([text()], spec(deps_factory="deps:waits"), deps=str(tmp_path / "never"))
    )
    stream.until("attempt_started")
    assert shared.steer(stream, "hurry").status == 202
    shared.delete(stream)

    assert stream.finish().data["undelivered"] == ["m1"]


def test_message_is_delivered_with_the_checkpoint_that_has_it(shared: Runner) -> None:
    script = [call("balance", ARGS), call("balance", ARGS, "c2"), text()]
    stream = shared.start(request(script, spec(rust())))
    asked = stream.until("tool_request")
    shared.steer(stream, "hurry")
    stream.answer(asked, content=1)
    stream.until("checkpoint")
    assert recorded(stream, "hurry") == []
    stream.permit(stream.seen[-1].id)
    stream.until("checkpoint")

    assert recorded(stream, "hurry") == [3]
    assert delivered(stream) == [[], [], ["m1"]]


def test_message_is_taken_once_however_often_it_is_sent(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    asked = stream.until("tool_request")
    for message_id in ("m1", "m1", "m2", "m1"):
        assert shared.steer(stream, "hurry", message_id=message_id).status == 202
    stream.answer(asked, content=1)
    done = stream.finish()

    assert every(stream) == ["m1", "m2"]
    assert len(recorded(stream, "hurry")) == 2
    assert done.data["undelivered"] == []


def test_message_that_a_failed_request_had_is_told_as_lost(shared: Runner) -> None:
    script = [call("balance", ARGS), {"fail": "rate_limited"}]
    stream = shared.start(request(script, spec(rust())))
    asked = stream.until("tool_request")
    shared.steer(stream, "hurry")
    stream.answer(asked, content=1)
    done = stream.finish()

    assert done.kind == "attempt_failed"
    # It is among the new messages, but an attempt resumes from the last checkpoint.
    assert done.data["undelivered"] == ["m1"]
    assert delivered(stream) == [[], []]


def test_messages_of_parts_are_delivered_and_none_at_all_is_refused(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    asked = stream.until("tool_request")
    parts: list[Any] = ["look", {"kind": "image-url", "url": "https://example.com/a.png"}]
    assert shared.steer(stream, parts).status == 202
    assert shared.steer(stream, [], message_id="m2").status == 400
    stream.answer(asked, content=1)
    stream.finish()

    assert stream.recorded()[3]["parts"][0]["content"][0] == "look"


def test_message_in_an_unstreamed_attempt_is_delivered(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust()), stream=False))
    asked = stream.until("tool_request")
    shared.steer(stream, "hurry")
    stream.answer(asked, content=1)

    assert stream.finish().data["undelivered"] == []
    assert every(stream) == ["m1"]


def paused(runner: Runner, *calls: list[Any]) -> tuple[Stream, str]:
    """An attempt that makes `calls`, gets a message meanwhile, and its end."""
    tools = [python("asks"), rust(parameters=PENDING)]
    stream = runner.start(request([{"calls": calls}, text()], spec(*tools)))
    checkpoint = stream.until("checkpoint")
    assert runner.steer(stream, "hurry").status == 202
    stream.permit(checkpoint.id)
    done = stream.finish(lambda _: {"content": 1})
    assert every(stream) == ["m1"]
    assert done.data["undelivered"] == []
    return stream, done.kind


def test_message_lifts_a_pause_in_which_every_call_waits(shared: Runner) -> None:
    stream, kind = paused(shared, ["asks", {}, "c1"])

    assert kind == "attempt_completed"
    assert recorded(stream, "hurry") == [2]


@pytest.mark.skipif(version("pydantic-ai-slim") < "2.68", reason="before 2.68 it lifts every pause")
def test_message_is_recorded_with_a_pause_in_which_some_calls_were_made(shared: Runner) -> None:
    stream, kind = paused(shared, ["asks", {}, "c1"], ["balance", ARGS, "c2"])

    assert kind == "attempt_paused"
    assert recorded(stream, "hurry") == [3]
