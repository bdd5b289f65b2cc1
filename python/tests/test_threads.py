"""What still runs in a thread when nobody waits for it any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import DEADLINE, Json, Runner, Stream
from support import CALLABLES, call, python, request, spec, text


@pytest.fixture(scope="module")
def own() -> Iterator[Runner]:
    """A runner in which no other test has left a thread behind."""
    with Runner(callables=CALLABLES) as runner:
        yield runner


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """The file that the sleeping threads wait for."""
    path = tmp_path / "wake"
    yield path
    path.touch()


def unfinished(runner: Runner) -> list[Json]:
    """What the runner says that still runs."""
    found: list[Json] = runner.get("/healthz").body["unfinished"]
    # An attempt takes a moment to end, and has no thread.
    return [left for left in found if left["tool"] != "the attempt"]


def wait_until_finished(runner: Runner) -> None:
    """Waits until nothing runs that nobody waits for."""
    until = time.monotonic() + DEADLINE
    while unfinished(runner):
        assert time.monotonic() < until, unfinished(runner)


def wait_until_begun(file: Path) -> None:
    """Waits until a thread sleeps."""
    begun = file.with_name(f"{file.name}.begun")
    until = time.monotonic() + DEADLINE
    while not begun.exists():
        assert time.monotonic() < until


def wait_until_told(runner: Runner) -> Json:
    """Waits until one thing is told to run on, and returns it."""
    until = time.monotonic() + DEADLINE
    while not (left := unfinished(runner)):
        assert time.monotonic() < until
    assert len(left) == 1
    return left[0]


def sleeping(runner: Runner, file: Path, tool: str = "sleeps", **fields: object) -> Stream:
    """An attempt whose tool sleeps until the file is there."""
    script = [call(tool, {"path": str(file)}), text()]
    stream = runner.start(request(script, spec(python(tool)), **fields))
    stream.until("tool_started")
    wait_until_begun(file)
    return stream


@pytest.mark.parametrize("tool", ["sleeps", "sleeps_in_executor"])
def test_cancelled_attempt_ends_at_once_and_its_thread_is_told(
    own: Runner, file: Path, tool: str
) -> None:
    stream = sleeping(own, file, tool)
    assert unfinished(own) == []
    own.delete(stream)

    assert stream.finish().kind == "attempt_cancelled"
    (left,) = unfinished(own)
    assert (left["run_id"], left["tool"]) == (stream.run_id, tool)
    assert 0 <= left["seconds"] < DEADLINE
    assert own.get("/healthz").body["attempts"] == 0
    file.touch()
    wait_until_finished(own)


def test_disconnected_attempt_leaves_its_thread(own: Runner, file: Path) -> None:
    stream = sleeping(own, file)
    stream.hang_up()

    assert wait_until_told(own)["run_id"] == stream.run_id
    file.touch()
    wait_until_finished(own)


def test_tool_over_its_timeout_is_told_while_the_attempt_goes_on(own: Runner, file: Path) -> None:
    script = [call("sleeps", {"path": str(file)}), text()]
    stream = own.start(request(script, spec(python("sleeps", timeout=1))))
    stream.until("tool_finished")

    assert [left["tool"] for left in unfinished(own)] == ["sleeps"]
    assert stream.finish().kind == "attempt_completed"
    assert len(unfinished(own)) == 1
    file.touch()
    wait_until_finished(own)


def test_attempt_over_its_timeout_leaves_its_thread(own: Runner, file: Path) -> None:
    stream = sleeping(own, file, timeout=1)

    assert stream.finish().data["error"]["kind"] == "run_timeout"
    assert [left["run_id"] for left in unfinished(own)] == [stream.run_id]
    file.touch()
    wait_until_finished(own)


def test_thread_that_a_tool_left_on_purpose_is_told_when_the_attempt_is_over(
    own: Runner, file: Path
) -> None:
    stream = sleeping(own, file, "leaves_a_thread")

    assert stream.finish().kind == "attempt_completed"
    assert [left["tool"] for left in unfinished(own)] == ["leaves_a_thread"]
    file.touch()
    wait_until_finished(own)


def test_tool_of_an_agent_defined_in_python_is_told(file: Path) -> None:
    with Runner(module="helpdesk:agent", callables=CALLABLES) as runner:
        script = [call("sleeps", {"path": str(file)}), text()]
        agent = {"module": "helpdesk:agent"}
        stream = runner.start(request(script, agent, deps={"name": "Ada"}))
        stream.permit_if_asked(stream.until("tool_started"))
        wait_until_begun(file)
        runner.delete(stream)

        assert stream.finish().kind == "attempt_cancelled"
        (left,) = unfinished(runner)
        assert (left["run_id"], left["tool"]) == (stream.run_id, "sleeps")
        file.touch()
        wait_until_finished(runner)


def test_sync_instructions_are_told_as_user_code(file: Path) -> None:
    with Runner(callables=CALLABLES, env={"WAIT_FOR": str(file)}) as runner:
        agent = spec(dynamic_instructions=["scripted:waits"])
        stream = runner.start(request([text()], agent, timeout=1))

        assert stream.finish().data["error"]["kind"] == "run_timeout"
        assert [left["tool"] for left in unfinished(runner)] == ["user code"]


def test_directly_called_tool_is_told_when_its_caller_has_gone(own: Runner, file: Path) -> None:
    connection = own.connect()
    body = f'{{"args": {{"path": "{file}"}}}}'
    connection.request("POST", "/v1/tools/tools:sleeps/call", body, own.headers())
    wait_until_begun(file)
    assert unfinished(own) == []
    connection.close()

    left = wait_until_told(own)
    assert (left["run_id"], left["tool"]) == (None, "sleeps")
    file.touch()
    wait_until_finished(own)


@pytest.mark.parametrize("tool", ["sleeps", "clings"])
def test_directly_called_tool_is_cancelled_by_its_id_and_told_until_it_ends(
    own: Runner, file: Path, tool: str
) -> None:
    connection = own.connect()
    body = f'{{"args": {{"path": "{file}"}}, "tool_call_id": "d1"}}'
    connection.request("POST", f"/v1/tools/tools:{tool}/call", body, own.headers())
    # One that is cancelled before it has begun leaves nothing.
    wait_until_begun(file)
    assert own.call("DELETE", "/v1/calls/d1").status == 202

    left = wait_until_told(own)
    assert (left["run_id"], left["tool"], left["tool_call_id"]) == (None, tool, "d1")
    file.touch()
    wait_until_finished(own)
    assert own.call("DELETE", "/v1/calls/d1").status == 404
    connection.close()


def test_stop_iteration_of_a_tool_is_a_failure_like_any_other(own: Runner) -> None:
    agent = spec(python("stops_iterating"))
    done = own.start(request([call("stops_iterating"), text()], agent)).finish()

    assert done.data["error"]["kind"] == "tool"
    assert done.data["error"]["tool"]["name"] == "stops_iterating"
