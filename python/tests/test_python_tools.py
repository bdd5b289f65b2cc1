"""Registered Python functions as tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Json, Runner
from support import CALLABLES, PENDING, call, calls, python, request, spec, text

ARGS: Json = {"include_pending": True}
COUNT: Json = {
    "type": "object",
    "properties": {"path": {"type": "string"}},
    "required": ["path"],
}


def test_tool_is_announced_and_its_result_told(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(python("balance"))))
    stream.finish()

    assert stream.all("tool_started")[0].data == {
        "tool_call_id": "c1",
        "step": 1,
        "name": "balance",
        "args": ARGS,
        "effect": "pure",
        "permit": False,
    }
    assert stream.all("tool_finished")[0].data == {
        "tool_call_id": "c1",
        "step": 1,
        "name": "balance",
        "outcome": "ok",
        "recorded": False,
        "result": "$123.45",
    }


def test_once_tool_is_not_called_before_its_permit(shared: Runner, tmp_path: Path) -> None:
    file = tmp_path / "calls"
    stream = shared.start(
        request([call("count", {"path": str(file)}), text()], spec(python("count")))
    )
    started = stream.until("tool_started")
    other = shared.start(request([text()], spec()))
    other.finish()

    assert started.data["permit"] is True
    assert started.data["effect"] == "once"
    assert not file.exists()
    assert stream.permit(started.id).status == 204
    assert stream.finish().kind == "attempt_completed"
    assert file.read_text() == "called\n"


def test_effect_of_the_spec_wins_over_the_launch_record(shared: Runner, tmp_path: Path) -> None:
    tool = python("count", effect="idempotent")
    path = str(tmp_path / "calls")
    stream = shared.start(request([call("count", {"path": path}), text()], spec(tool)))
    stream.finish()

    assert stream.all("tool_started")[0].data["effect"] == "idempotent"
    assert stream.all("tool_started")[0].data["permit"] is False


def test_parameters_come_from_the_hints_unless_given(shared: Runner) -> None:
    import json

    derived = shared.start(request([{"say": "schema"}], spec(python("balance"))))
    given = python("balance", parameters={**PENDING, "title": "mine"})
    stated = shared.start(request([{"say": "schema"}], spec(given)))

    assert json.loads(derived.finish().data["output"])["properties"].keys() == {"include_pending"}
    assert json.loads(stated.finish().data["output"])["title"] == "mine"


def test_given_parameters_are_enforced_before_the_function_is_called(
    shared: Runner, tmp_path: Path
) -> None:
    file = tmp_path / "calls"
    strict = {**COUNT, "properties": {"path": {"type": "string", "pattern": "^/"}}}
    script = [
        call("count", {"path": "relative"}, "bad"),
        call("count", {"path": str(file)}),
        text(),
    ]
    stream = shared.start(request(script, spec(python("count", parameters=strict))))
    done = stream.finish()

    assert done.kind == "attempt_completed"
    assert [event.data["tool_call_id"] for event in stream.all("tool_started")] == ["c1"]
    assert file.read_text() == "called\n"


def test_arguments_are_converted_to_the_hints(shared: Runner) -> None:
    script = [call("typed", {"point": {"x": 1, "y": 2}}), text()]
    stream = shared.start(request(script, spec(python("typed"))))
    stream.finish()

    assert stream.all("tool_finished")[0].data["result"] == "Point(3)"
    assert stream.all("tool_started")[0].data["args"] == {"point": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("name", "kind", "fault"),
    [("boom", "ValueError", "Customer not found"), ("leave", "SystemExit", "3")],
)
def test_tool_that_raises_fails_the_attempt_with_its_own_error(
    shared: Runner, name: str, kind: str, fault: str
) -> None:
    done = shared.start(request([call(name), text()], spec(python(name)))).finish()

    error = done.data["error"]
    assert done.kind == "attempt_failed"
    assert (error["kind"], error["class"], error["message"]) == ("tool", kind, fault)
    assert error["tool"] == {"tool_call_id": "c1", "name": name}
    assert f"in {name}" in error["traceback"]


@pytest.mark.parametrize(
    ("name", "outcome", "told"),
    [("once_wrong", "retry", "Not like this."), ("fails", "failed", "The branch is closed.")],
)
def test_what_a_tool_tells_the_model_is_told_on_the_stream(
    shared: Runner, name: str, outcome: str, told: str
) -> None:
    script = [call(name, call_id="a"), call(name, call_id="b"), text()]
    stream = shared.start(request(script, spec(python(name))))
    done = stream.finish()

    first = stream.all("tool_finished")[0].data
    assert (first["outcome"], first["result"]) == (outcome, told)
    assert done.kind == "attempt_completed"


@pytest.mark.parametrize("name", ["hang", "hang_in_thread"])
def test_tool_over_its_timeout_is_given_up_and_the_model_told(shared: Runner, name: str) -> None:
    script = [call(name), text("Never mind.")]
    stream = shared.start(request(script, spec(python(name, timeout=0.1))))
    done = stream.finish()

    assert stream.all("tool_finished")[0].data["outcome"] == "retry"
    assert "Timed out after 0.1 seconds" in stream.all("tool_finished")[0].data["result"]
    assert done.data["output"] == "Never mind."


def test_timeout_of_the_spec_is_the_default_of_its_tools(shared: Runner) -> None:
    stream = shared.start(request([call("hang"), text()], spec(python("hang"), tool_timeout=0.1)))

    assert stream.finish().kind == "attempt_completed"


def test_recorded_result_is_returned_without_calling_the_function(
    shared: Runner, tmp_path: Path
) -> None:
    file = tmp_path / "calls"
    script = [
        calls(("count", {"path": str(file)}, "a"), ("count", {"path": str(file)}, "b")),
        text(),
    ]
    run = request(script, spec(python("count")), recorded={"a": 41})
    stream = shared.start(run)
    done = stream.finish()

    contents = [part["content"] for part in done.data["new_messages"][2]["parts"]]
    assert contents == [41, 1]
    assert file.read_text() == "called\n"
    assert [e.data["tool_call_id"] for e in stream.all("tool_started")] == ["b"]
    recorded = {e.data["tool_call_id"]: e.data["recorded"] for e in stream.all("tool_finished")}
    assert recorded == {"a": True, "b": False}


def test_content_beside_a_result_is_replayed_too(shared: Runner) -> None:
    script = [call("picture"), text()]
    stream = shared.start(request(script, spec(python("picture"))))
    first = stream.finish().data["new_messages"]
    result = stream.all("tool_finished")[0].data["result"]
    replay = request(script, spec(python("picture")), recorded={"c1": result})
    second = shared.start(replay).finish().data["new_messages"]

    def contents(messages: list[Json]) -> list[object]:
        return [part["content"] for part in messages[2]["parts"]]

    assert contents(first) == contents(second)
    assert contents(first)[0] == {"size": 3}


def test_records_are_told_on_the_stream_and_prints_go_to_stdout(shared: Runner) -> None:
    stream = shared.start(request([call("chatty"), text()], spec(python("chatty"))))
    stream.finish()

    told, failed = [event.data for event in stream.all("log")]
    assert told == {
        "level": "info",
        "logger": "bank.tools",
        "message": "hello log",
        "fields": {"customer": 123},
    }
    assert failed["level"] == "error"
    assert "ValueError: caught" in failed["fields"]["traceback"]
    assert "hello stdout\n" in shared.printed()


def test_secrets_are_redacted_from_errors_and_logs(shared: Runner) -> None:
    stream = shared.start(request([call("leaks"), text()], spec(python("leaks"))))
    done = stream.finish()

    assert done.data["error"]["message"] == "cannot log in with [redacted]"
    assert stream.all("log")[0].data["message"] == "key is [redacted]"
    assert not any("s3cret-bank-key" in str(event.data) for event in stream.seen)


def test_error_text_that_json_cannot_carry_is_escaped(shared: Runner) -> None:
    done = shared.start(request([call("surrogate"), text()], spec(python("surrogate")))).finish()

    assert done.data["error"]["message"] == "lone \\ud800 surrogate"


@pytest.mark.parametrize(
    ("factory", "made_by"),
    [
        ("plain", "plain"),
        ("coroutine", "coroutine"),
        ("in_context", "async context"),
        ("sync_context", "context"),
    ],
)
def test_deps_are_made_once_per_run_by_the_factory(
    shared: Runner, factory: str, made_by: str
) -> None:
    script = [call("describes_deps", call_id="a"), call("describes_deps", call_id="b"), text()]
    agent = spec(python("describes_deps"), deps_factory=f"deps:{factory}")
    stream = shared.start(request(script, agent, deps={"customer_id": 7}))
    assert stream.finish().kind == "attempt_completed"

    results = {event.data["result"] for event in stream.all("tool_finished")}
    assert results == {f"Bank(customer=7, made_by={made_by!r})"}


def test_deps_are_the_json_when_there_is_no_factory(shared: Runner) -> None:
    agent = spec(python("describes_deps"))
    stream = shared.start(request([call("describes_deps"), text()], agent, deps={"a": [1, None]}))
    stream.finish()

    assert stream.all("tool_finished")[0].data["result"] == "{'a': [1, None]}"


@pytest.mark.parametrize(
    ("factory", "kind", "cause"),
    [("broken", "toolset", "ConnectionError"), ("cannot_close", "toolset", "OSError")],
)
def test_factory_that_fails_fails_the_attempt(
    shared: Runner, factory: str, kind: str, cause: str
) -> None:
    agent = spec(deps_factory=f"deps:{factory}")
    done = shared.start(request([text()], agent, deps={"customer_id": 1})).finish()

    error = done.data["error"]
    assert done.kind == "attempt_failed"
    assert (error["kind"], error["class"], error["phase"]) == (kind, cause, "deps")


def test_deps_that_do_not_fit_the_factory_are_refused(shared: Runner) -> None:
    agent = spec(deps_factory="deps:coroutine")
    refusal = shared.start(request([text()], agent, deps={"customer_id": "x"})).refusal()

    assert refusal.status == 400
    assert (refusal.error["kind"], refusal.error["phase"]) == ("config", "deps")
    assert "customer_id" in refusal.error["message"]


class TestDirectCall:
    """`POST /v1/tools/{target}/call`."""

    def test_returns_the_result(self, shared: Runner) -> None:
        answer = shared.post("/v1/tools/tools:balance/call", {"args": ARGS})

        assert (answer.status, answer.body) == (200, {"result": "$123.45"})

    def test_invalid_arguments_are_refused(self, shared: Runner) -> None:
        answer = shared.post("/v1/tools/tools:balance/call", {"args": {"include_pending": "?"}})

        assert answer.status == 400
        assert (answer.error["kind"], answer.error["phase"]) == ("tool", "arguments")
        assert "include_pending" in answer.error["message"]

    @pytest.mark.parametrize("target", ["os:system", "tools:Point", "deps:plain"])
    def test_what_is_not_registered_as_a_tool_is_not_found(
        self, shared: Runner, target: str
    ) -> None:
        assert shared.post(f"/v1/tools/{target}/call", {"args": {}}).status == 404

    @pytest.mark.parametrize(
        ("name", "raised"),
        [("boom", "ValueError"), ("once_wrong", "ModelRetry"), ("fails", "ToolFailed")],
    )
    def test_what_the_tool_raises_is_told(self, shared: Runner, name: str, raised: str) -> None:
        body = {"deps_factory": "deps:nothing"}
        answer = shared.post(f"/v1/tools/tools:{name}/call", body)

        assert answer.status == 422
        assert (answer.error["kind"], answer.error["class"]) == ("tool", raised)
        assert f"in {name}" in answer.error["traceback"]

    def test_target_that_is_no_function_is_a_config_error(self, shared: Runner) -> None:
        answer = shared.post("/v1/tools/tools:not_a_function/call", {})

        assert (answer.status, answer.error["kind"]) == (400, "config")

    def test_deps_are_made_by_the_registered_factory(self) -> None:
        factories = ("deps:in_context",)
        callables = [c for c in CALLABLES if c["role"] != "deps_factory"] + [
            {"target": target, "role": "deps_factory"} for target in factories
        ]
        with Runner(callables=callables) as runner:
            body = {"deps": {"customer_id": 5}}
            answer = runner.post("/v1/tools/tools:describes_deps/call", body)

            assert answer.body == {"result": "Bank(customer=5, made_by='async context')"}
            assert "deps up\ndeps down\n" in runner.printed()


def test_each_once_call_of_a_batch_waits_for_its_own_permit(shared: Runner, tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    batch = calls(*(("count", {"path": str(file)}, file.name) for file in files))
    stream = shared.start(request([batch, text()], spec(python("count"))))
    first = stream.until("tool_started")
    second = stream.next()

    assert second is not None
    assert (second.kind, second.data["permit"]) == ("tool_started", True)
    assert stream.silent()
    stream.permit(second.id)
    finished = stream.until("tool_finished").data["tool_call_id"]
    assert finished == second.data["tool_call_id"]
    assert [file.exists() for file in files] == [file.name == finished for file in files]
    stream.permit(first.id)
    assert stream.finish().kind == "attempt_completed"
    assert all(file.exists() for file in files)
