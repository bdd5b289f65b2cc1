"""User code may fail in every way, and the runner lives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import DEADLINE, Json, Runner
from support import CALLABLES, call, python, request, spec, text


@pytest.fixture(scope="module")
def one() -> Iterator[Runner]:
    """A runner that is alive after every test."""
    with Runner(callables=CALLABLES) as runner:
        yield runner


@pytest.fixture
def runner(one: Runner) -> Iterator[Runner]:
    """That runner; it answers and completes a run after the test."""
    yield one
    assert one.get("/healthz").status == 200
    assert one.start(request([text()], spec())).finish().kind == "attempt_completed"
    one.release()


def failure(runner: Runner, script: list[Json], agent: Json, **fields: object) -> Json:
    """The error of an attempt that fails."""
    done = runner.start(request(script, agent, **fields)).finish()
    assert done.kind == "attempt_failed"
    error: Json = done.data["error"]
    return error


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("name", "raised"),
    [
        ("leave", "SystemExit"),
        ("interrupted", "KeyboardInterrupt"),
        ("grouped", "BaseExceptionGroup"),
        ("exits_in_a_task", "SystemExit"),
        ("rude", "Rude"),
    ],
)
def test_tool_that_wants_to_end_the_process_only_fails(
    runner: Runner, name: str, raised: str, streamed: bool
) -> None:
    script = [call(name), text()]
    error = failure(runner, script, spec(python(name)), stream=streamed)

    assert (error["kind"], error["class"]) == ("tool", raised)
    assert error["message"]
    assert f"in {name}" in error["traceback"]


@pytest.mark.parametrize(
    ("name", "raised"),
    [
        ("leave", "SystemExit"),
        ("interrupted", "KeyboardInterrupt"),
        ("grouped", "BaseExceptionGroup"),
        ("exits_in_a_task", "SystemExit"),
        ("rude", "Rude"),
    ],
)
def test_direct_call_that_wants_to_end_the_process_only_fails(
    runner: Runner, name: str, raised: str
) -> None:
    answer = runner.post(f"/v1/tools/tools:{name}/call", {})

    assert (answer.status, answer.error["kind"], answer.error["class"]) == (422, "tool", raised)


def test_end_of_the_event_loop_is_none_of_the_runner(runner: Runner) -> None:
    name = "exits_in_a_callback"
    stream = runner.start(request([call(name), text()], spec(python(name))))

    assert stream.finish().kind == "attempt_completed"
    assert stream.all("tool_finished")[0].data["result"] == "still here"


@pytest.mark.parametrize(
    ("factory", "message"), [("exits", "no deps"), ("exits_at_the_end", "no end")]
)
def test_deps_factory_that_exits_only_fails(runner: Runner, factory: str, message: str) -> None:
    error = failure(runner, [text()], spec(deps_factory=f"deps:{factory}"))

    assert (error["kind"], error["phase"]) == ("toolset", "deps")
    assert (error["class"], error["message"]) == ("SystemExit", message)


def test_validation_of_deps_that_exits_is_refused(runner: Runner) -> None:
    agent = spec(deps_factory="deps:exits_in_validation")
    refusal = runner.start(request([text()], agent, deps={})).refusal()

    assert (refusal.status, refusal.error["class"]) == (400, "SystemExit")


@pytest.mark.parametrize("streamed", [True, False])
def test_instructions_that_exit_only_fail(runner: Runner, streamed: bool) -> None:
    agent = spec(dynamic_instructions=["scripted:exits"])
    error = failure(runner, [text()], agent, stream=streamed)

    assert (error["class"], error["message"]) == ("SystemExit", "scripted:exits")
    assert "in exits" in error["traceback"]


@pytest.mark.parametrize("streamed", [True, False])
def test_model_that_exits_only_fails(runner: Runner, streamed: bool) -> None:
    error = failure(runner, [{"fail": "exit"}], spec(), stream=streamed)

    assert (error["kind"], error["class"]) == ("internal", "SystemExit")


def test_model_that_exits_when_it_is_made_is_refused(runner: Runner) -> None:
    refusal = runner.post("/v1/agents/validate", {"spec": {"model": "python:scripted:exits"}})

    assert (refusal.status, refusal.error["kind"]) == (400, "config")
    assert refusal.error["class"] == "SystemExit"


@pytest.mark.parametrize(
    ("target", "role", "message"),
    [
        ("exits_at_import:tool", "tool", "not today"),
        ("deps:no_lifespan_at_all", "lifespan", "no lifespan"),
    ],
)
def test_exit_before_ready_is_a_failed_start(target: str, role: str, message: str) -> None:
    with Runner(callables=[{"target": target, "role": role}]) as runner:
        error = runner.first["error"]

        assert runner.first["type"] == "failed"
        assert (error["kind"], error["class"], error["message"]) == (
            "config",
            "SystemExit",
            message,
        )
        assert "Traceback" in error["traceback"]
        assert runner.process.wait(DEADLINE) == 1


def test_lifespan_that_exits_at_the_end_is_told_and_no_failed_start() -> None:
    with Runner(callables=[{"target": "deps:lifespan_that_exits", "role": "lifespan"}]) as runner:
        assert runner.first["type"] == "ready"
        runner.process.terminate()
        record = runner.record()

        assert (record["type"], record["level"]) == ("log", "error")
        assert "lifespan over" in record["fields"]["traceback"]
        assert runner.process.wait(DEADLINE) == 0


def test_closed_stdout_does_not_keep_the_runner_from_its_end() -> None:
    with Runner(callables=CALLABLES) as runner:
        answer = runner.post("/v1/tools/tools:closes_stdout/call", {})
        runner.process.terminate()

        assert answer.body == {"result": "closed"}
        assert runner.process.wait(DEADLINE) == 0
        assert "Traceback" not in runner.printed()


def test_what_a_closed_control_socket_loses_is_on_stderr() -> None:
    with Runner(callables=CALLABLES) as runner:
        answer = runner.post("/v1/tools/tools:closes_the_control_socket/call", {})
        runner.process.terminate()

        assert answer.body == {"result": "closed"}
        assert runner.process.wait(DEADLINE) == 0
        assert "the control socket is closed" in runner.printed()
        assert "nobody hears this" in runner.printed()
