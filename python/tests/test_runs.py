"""A run from its first event to its terminal."""

from __future__ import annotations

import itertools
import json

import pytest

from harness import Json, Runner
from support import GOOD, answer, call, python, request, spec, structured, text


def test_text_run_streams_pydantic_ai_events_between_start_and_terminal(shared: Runner) -> None:
    stream = shared.start(request([text("Hello, customer.")], spec()))
    done = stream.finish()

    assert done.kind == "attempt_completed"
    assert done.data["output"] == "Hello, customer."
    assert done.data["model"] == "function:offline"
    assert stream.kinds()[0] == "attempt_started"
    assert stream.seen[0].data == {
        "attempt": 1,
        "generation": 3,
        "model": "function:offline",
        "provider": "function",
        "offline": True,
    }
    assert {"part_start", "part_delta", "part_end", "final_result"} <= set(stream.kinds())
    assert [event.id for event in stream.seen] == list(range(1, len(stream.seen) + 1))
    assert "partial_output" not in stream.kinds()


def test_structured_run_with_a_tool_completes_and_waits_for_its_permits(shared: Runner) -> None:
    script = [call("balance", {"include_pending": True}), answer(GOOD)]
    stream = shared.start(request(script, structured(python("balance"))))
    done = stream.finish()

    assert done.data["output"] == GOOD
    assert [event.data["before"] for event in stream.all("checkpoint")] == ["tools", "model", "end"]
    assert stream.recorded() == done.data["new_messages"]
    assert [message["kind"] for message in stream.recorded()] == ["request", "response"] * 2 + [
        "request"
    ]
    assert done.data["usage"]["requests"] == 2
    assert done.data["usage"]["tool_calls"] == 1


def test_attempt_stands_still_until_the_permit_comes(shared: Runner) -> None:
    script = [call("balance", {"include_pending": True}), text()]
    stream = shared.start(request(script, spec(python("balance"))))
    checkpoint = stream.until("checkpoint")
    other = shared.start(request([text()], spec()))

    assert other.finish().kind == "attempt_completed"
    assert stream.silent()
    assert stream.permit(checkpoint.id).status == 204
    assert stream.finish().kind == "attempt_completed"


def test_unstreamed_run_sends_only_the_runners_own_events(shared: Runner) -> None:
    script = [call("balance", {"include_pending": False}), answer(GOOD)]
    stream = shared.start(request(script, structured(python("balance")), stream=False))

    assert stream.finish().data["output"] == GOOD
    assert stream.kinds() == [
        "attempt_started",
        "checkpoint",
        "tool_started",
        "tool_finished",
        "checkpoint",
        "checkpoint",
        "attempt_completed",
    ]


def test_partial_output_grows_towards_the_output(shared: Runner) -> None:
    long: Json = {"advice": "Call us. " * 20, "risk": 3}
    script = [{**answer(long), "slowly": True}]
    stream = shared.start(request(script, structured()))
    done = stream.finish()

    values = [event.data["value"] for event in stream.all("partial_output")]
    assert len(values) >= 3
    assert all(a != b for a, b in itertools.pairwise(values))
    assert all(long["advice"].startswith(value.get("advice", "")) for value in values)
    assert done.data["output"] == long


@pytest.mark.parametrize("mode", ["tool", "native", "prompted"])
def test_each_output_mode_gives_validated_output(shared: Runner, mode: str) -> None:

    reply = answer(GOOD) if mode == "tool" else text(json.dumps(GOOD))
    stream = shared.start(request([reply], structured(mode=mode)))

    assert stream.finish().data["output"] == GOOD
    assert stream.all("partial_output")[-1].data["value"].keys() <= GOOD.keys()


def test_history_and_instructions_reach_the_model(shared: Runner) -> None:
    first = shared.start(request([text("One.")], spec(), conversation_id="talk"))
    history = first.finish().data["new_messages"]
    second = request([{"say": "instructions"}], spec(), message_history=history)
    second |= {"instructions": "Be kind.", "conversation_id": "talk"}
    second["message_history"][0]["parts"][0]["content"] = "[]"
    second["prompt"] = '[{"text": "unused"}]'
    history_script = '[{"text": "unused"}, {"say": "instructions"}]'
    second["message_history"][0]["parts"][0]["content"] = history_script
    stream = shared.start(second)
    done = stream.finish()

    assert done.data["output"] == "Be kind."
    assert [m["conversation_id"] for m in done.data["new_messages"]] == ["talk", "talk"]
    assert stream.all("checkpoint")[-1].data["base"] == len(history)


def test_usage_continues_from_what_was_used_before(shared: Runner) -> None:
    agent = request([text()], spec(), usage={"requests": 7, "input_tokens": 1000})
    done = shared.start(agent).finish()

    assert done.data["usage"]["requests"] == 8
    assert done.data["usage"]["input_tokens"] > 1000


def test_usage_limit_ends_the_attempt(shared: Runner) -> None:
    script = [call("balance", {"include_pending": True}), text()]
    limited = request(script, spec(python("balance")), usage_limits={"request_limit": 1})
    done = shared.start(limited).finish()

    assert done.kind == "attempt_failed"
    assert done.data["error"]["kind"] == "usage_limit"
    assert done.data["error"]["retryable"] is False
    assert len(done.data["new_messages"]) >= 2


def test_there_is_no_hidden_limit_of_fifty_requests(shared: Runner) -> None:
    agent = spec(python("balance"), retries={"tools": 100})
    script = [call("balance", {"include_pending": True}, f"c{i}") for i in range(55)]
    stream = shared.start(request([*script, text("far")], agent, stream=False))

    assert stream.finish().data["output"] == "far"


def test_timeout_ends_the_attempt(shared: Runner) -> None:
    stream = shared.start(request([{"hang": True}], spec(), timeout=0.3))
    done = stream.finish()

    assert done.kind == "attempt_failed"
    assert done.data["error"]["kind"] == "run_timeout"


def test_timeout_also_bounds_waiting_for_a_permit(shared: Runner) -> None:
    script = [call("balance", {"include_pending": True}), text()]
    stream = shared.start(request(script, spec(python("balance")), timeout=0.3))
    events = list(stream)

    assert events[-1].data["error"]["kind"] == "run_timeout"


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (
            "rate_limited",
            {"kind": "model_rate_limited", "retry_after": 3.0, "status_code": 429},
        ),
        ("connection", {"kind": "model_connection", "phase": "connect", "retryable": True}),
        ("fallback", {"kind": "fallback_exhausted", "retryable": True}),
        ("bug", {"kind": "internal", "class": "KeyError", "retryable": False}),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_failure_of_the_model_is_classified(
    shared: Runner, failure: str, expected: dict[str, object], streamed: bool
) -> None:
    stream = shared.start(request([{"fail": failure}], spec(), stream=streamed))
    done = stream.finish()

    assert done.kind == "attempt_failed"
    assert expected.items() <= done.data["error"].items()
    assert ("traceback" in done.data["error"]) is (failure == "bug")


def test_message_steers_a_live_run(shared: Runner) -> None:
    script = [call("balance", {"include_pending": True}), {"say": "prompts"}]
    stream = shared.start(request(script, spec(python("balance"))))
    checkpoint = stream.until("checkpoint")
    assert shared.steer(stream, "I am in a hurry.").status == 202
    stream.permit_if_asked(checkpoint)

    assert stream.finish().data["output"] == '["I am in a hurry."]'


def test_metadata_and_model_settings_reach_pydantic_ai(shared: Runner) -> None:
    agent = spec(model_settings={"temperature": 0.5, "max_tokens": 9}, metadata={"team": "bank"})
    settings = {"temperature": 0.1}
    stream = shared.start(request([{"say": "settings"}], agent, model_settings=settings))

    assert stream.finish().data["output"] == (
        '{"max_retries": 0, "temperature": 0.1, "max_tokens": 9}'
    )


def test_parts_can_be_the_prompt(shared: Runner) -> None:
    script = '[{"text": "seen"}]'
    image = {"kind": "binary", "media_type": "image/png", "data": "aGVsbG8="}
    run = request([], spec(), prompt=["Look:", image])
    run["instructions"] = "none"
    run["message_history"] = [
        {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": script}]}
    ]
    done = shared.start(run).finish()

    assert done.data["output"] == "seen"
    content = done.data["new_messages"][-2]["parts"][-1]["content"]
    assert content[1]["data"] == "aGVsbG8="
