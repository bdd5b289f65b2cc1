"""What user code or the model made and JSON cannot carry is never told as `decode`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from axon_runner import failures
from harness import Event, Json, Runner
from support import CALLABLES, answer, call, python, request, rust, spec, text


def run(runner: Runner, name: str, **fields: Any) -> list[Event]:
    """Runs an agent that calls one tool; returns every event, the terminal last."""
    stream = runner.start(request([call(name), text()], spec(python(name)), **fields))
    stream.finish()
    return stream.seen


def ends(events: list[Event]) -> list[tuple[str, str]]:
    """The outcome and result of every call that is said to have ended."""
    return [(e.data["outcome"], e.data["result"]) for e in events if e.kind == "tool_finished"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("not_a_number", "the value is nan, not a finite number"),
        ("unserialisable", "the value is of type object"),
        ("deep", "is nested deeper than 64 levels"),
        ("wrong_deep_inside", "accounts.1.balance is -inf, not a finite number"),
        ("retries_with_a_surrogate", "the value is text with a lone surrogate"),
    ],
)
def test_result_that_json_cannot_carry_is_the_tools_failure(
    shared: Runner, name: str, fault: str
) -> None:
    events = run(shared, name)

    error = events[-1].data["error"]
    assert events[-1].kind == "attempt_failed"
    assert (error["kind"], error["class"]) == ("tool", "ResultUnsendable")
    assert error["tool"] == {"tool_call_id": "c1", "name": name}
    assert f"tool {name} returned what cannot be written as JSON" in error["message"]
    assert fault in error["message"]
    assert "return text, finite numbers" in error["message"]
    assert "Traceback" in error["traceback"]
    assert ends(events) == [("failed", error["message"])]


def test_once_call_that_returned_is_not_left_open(shared: Runner, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    name = "once_unserialisable"
    stream = shared.start(request([call(name, {"path": str(file)}), text()], spec(python(name))))
    done = stream.finish()

    assert stream.all("tool_started")[0].data["permit"] is True
    assert stream.all("tool_finished")[0].data["outcome"] == "failed"
    assert done.data["error"]["kind"] == "tool"
    assert file.read_text() == "called\n"


def test_metadata_of_a_deferral_is_the_tools_too(shared: Runner) -> None:
    events = run(shared, "asks_with_an_object")

    error = events[-1].data["error"]
    assert (error["kind"], error["tool"]["name"]) == ("tool", "asks_with_an_object")
    assert "why is of type object" in error["message"]
    assert [outcome for outcome, _ in ends(events)] == ["failed"]


def test_result_over_the_limit_of_events_is_the_tools_failure() -> None:
    with Runner(callables=CALLABLES, limits={"event_bytes": 20_000}) as runner:
        value = [text("x" * 100)] * 200
        script = [call("describes_deps"), text()]
        stream = runner.start(request(script, spec(python("describes_deps")), deps=value))
        done = stream.finish()

        assert done.data["error"]["kind"] == "tool"
        assert "is the limit" in done.data["error"]["message"]
        assert stream.all("tool_finished")[0].data["outcome"] == "failed"


class TestDirectCall:
    """The same from `POST /v1/tools/{target}/call`."""

    @pytest.mark.parametrize("name", ["not_a_number", "unserialisable", "deep"])
    def test_says_what_to_return_instead(self, shared: Runner, name: str) -> None:
        reply = shared.post(f"/v1/tools/tools:{name}/call", {})

        assert (reply.status, reply.error["kind"]) == (422, "tool")
        assert reply.error["tool"]["name"] == f"tools:{name}"
        assert "cannot be written as JSON" in reply.error["message"]
        assert "return text, finite numbers" in reply.error["message"]
        assert "traceback" not in reply.error


class TestModel:
    """What the model said."""

    def test_number_that_is_none_in_whole_arguments(self, shared: Runner) -> None:
        script = [call("anything", {"value": float("nan")}), text()]
        agent = spec(python("anything"))
        done = shared.start(request(script, agent, stream=False)).finish()

        error = done.data["error"]
        assert (error["kind"], error["class"]) == ("model_behavior", "ModelUnsendable")
        assert "args.value is nan" in error["message"]

    def test_number_that_a_tool_takes_is_told_as_text(self, shared: Runner) -> None:
        script = [call("halves", '{"amount": NaN}'), text()]
        stream = shared.start(request(script, spec(python("halves"))))
        done = stream.finish()

        assert done.kind == "attempt_completed"
        assert stream.all("tool_started")[0].data["args"] == {"amount": "NaN"}
        assert stream.all("tool_finished")[0].data["result"] == "nan"

    @pytest.mark.parametrize("tool", [python("anything"), rust("anything", parameters={})])
    @pytest.mark.parametrize("streamed", [True, False])
    def test_arguments_too_deep_are_asked_again(
        self, shared: Runner, tool: Json, streamed: bool
    ) -> None:
        deep: Any = 1
        for _ in range(63):
            deep = [deep]
        script = [call("anything", {"value": deep}), text("Never mind.")]
        stream = shared.start(request(script, spec(tool), stream=streamed))
        done = stream.finish()

        assert done.data["output"] == "Never mind."
        assert not stream.all("tool_started")
        told = str(done.data["new_messages"][2]["parts"][0]["content"])
        assert "is nested deeper than 64 levels" in told

    def test_partial_output_too_deep_is_left_out(self, shared: Runner) -> None:
        deep: Any = "x" * 100
        for _ in range(66):
            deep = [deep]
        agent = spec(output={"schema": {"type": "object", "properties": {"value": {}}}})
        script = [{**answer({"value": deep}), "slowly": True}, answer({"value": 1})]
        done = shared.start(request(script, agent)).finish()

        assert done.data["output"] == {"value": 1}


@pytest.fixture(scope="module")
def rated() -> Iterator[Runner]:
    """A runner of an agent whose output function gives what JSON cannot carry."""
    with Runner(module="helpdesk:with_output_function", callables=CALLABLES) as runner:
        yield runner
        runner.release()


@pytest.mark.parametrize("streamed", [True, False])
def test_output_that_json_cannot_carry_is_output_invalid(rated: Runner, streamed: bool) -> None:
    agent = {"module": "helpdesk:with_output_function"}
    script = [answer({"advice": "Call.", "risk": 1.0})]
    done = rated.start(request(script, agent, stream=streamed)).finish()

    error = done.data["error"]
    assert done.kind == "attempt_failed"
    assert (error["kind"], error["retryable"]) == ("output_invalid", False)
    assert "risks.1 is inf, not a finite number" in error["message"]
    assert done.data["new_messages"]


def test_no_failure_of_an_attempt_is_decode() -> None:
    assert "decode" not in {row.kind for _, row in failures.TABLE}
