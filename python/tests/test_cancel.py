"""Every way in which an attempt ends before it is done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import DEADLINE, Json, Runner, Stream
from support import CALLABLES, call, python, request, rust, spec, text

ARGS: Json = {"include_pending": True}


@pytest.fixture
def own() -> Iterator[Runner]:
    """A runner that the test may end."""
    with Runner(callables=CALLABLES) as runner:
        yield runner


def hanging(runner: Runner, **fields: object) -> Stream:
    """An attempt whose model has begun to answer and never ends."""
    stream = runner.start(request([{"text": "Well", "hang": True}], spec(), **fields))
    stream.until("log")
    return stream


def attempts(runner: Runner) -> int:
    """How many attempts are live."""
    count: int = runner.get("/healthz").body["attempts"]
    return count


def wait_until_idle(runner: Runner) -> None:
    """Drains the runner, so that its exit says that no attempt is left."""
    assert runner.post("/v1/drain").status == 202
    assert runner.process.wait(DEADLINE) == 0


@pytest.mark.parametrize("tool", ["hang", "hang_in_thread"])
def test_delete_cancels_a_running_tool(shared: Runner, tool: str) -> None:
    stream = shared.start(request([call(tool), text()], spec(python(tool))))
    stream.until("tool_started")

    assert shared.delete(stream).status == 202
    done = stream.finish()
    assert done.kind == "attempt_cancelled"
    assert [m["kind"] for m in done.data["new_messages"]][:2] == ["request", "response"]
    assert done.data["usage"]["requests"] == 1


def test_delete_withdraws_a_tool_request(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    stream.until("tool_request")
    assert shared.delete(stream).status == 202
    stream.finish()

    assert stream.kinds()[-2:] == ["tool_request_cancelled", "attempt_cancelled"]


def test_delete_of_what_is_over_or_unknown_is_refused(shared: Runner) -> None:
    stream = shared.start(request([text()], spec()))
    stream.finish()

    assert shared.delete(stream).status == 410
    assert shared.call("DELETE", "/v1/runs/never-seen").status == 404


def test_delete_closes_the_providers_connection(own: Runner) -> None:
    stream = hanging(own)
    own.delete(stream)

    assert stream.finish().kind == "attempt_cancelled"
    assert "model connection closed\n" in own.printed()


def test_disconnect_cancels_the_attempt(own: Runner) -> None:
    stream = hanging(own)
    stream.hang_up()
    wait_until_idle(own)

    assert "model connection closed\n" in own.printed()


def test_disconnect_cancels_a_tool_that_waits_for_rust(own: Runner) -> None:
    stream = own.start(request([call("balance", ARGS), text()], spec(rust())))
    stream.until("tool_request")
    stream.hang_up()

    wait_until_idle(own)


def test_higher_attempt_cancels_the_lower_and_starts_after_it(shared: Runner) -> None:
    lower = hanging(shared)
    first = lower.request
    higher = shared.start({**first, "attempt": 2, "prompt": '[{"text": "second"}]'})

    assert higher.finish().data["output"] == "second"
    assert lower.finish().kind == "attempt_cancelled"


def test_attempt_that_is_not_higher_is_refused(shared: Runner) -> None:
    live = hanging(shared, attempt=2)
    for attempt in (1, 2):
        refusal = shared.start({**live.request, "attempt": attempt}).refusal()
        assert refusal.status == 409
    shared.delete(live)
    live.finish()
    again = shared.start({**live.request, "attempt": 2}).refusal()

    assert again.status == 409


def test_posts_of_a_lower_attempt_are_stale(shared: Runner) -> None:
    lower = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    asked = lower.until("tool_request")
    checkpoint = lower.all("checkpoint")[0]
    higher = shared.start({**lower.request, "attempt": 2})
    higher.until("tool_request")

    assert lower.permit(checkpoint.id).status == 409
    assert lower.answer(asked, content=1).status == 409
    assert shared.steer(lower, "hello").status == 409
    assert higher.permit(10_000).status == 404
    shared.delete(higher)
    higher.finish()
    assert lower.permit(checkpoint.id).status == 409
    assert higher.permit(checkpoint.id).status == 410
    assert shared.steer(higher, "hello").status == 410


def test_runner_refuses_more_attempts_than_its_limit() -> None:
    with Runner(callables=CALLABLES, limits={"attempts": 1}) as runner:
        live = hanging(runner)
        refusal = runner.start(request([text()], spec())).refusal()

        assert refusal.status == 429
        assert (refusal.error["kind"], refusal.error["retryable"]) == ("busy", True)
        assert attempts(runner) == 1
        runner.delete(live)
        live.finish()


def test_drain_refuses_new_attempts_finishes_the_live_ones_and_exits(own: Runner) -> None:
    stream = own.start(request([call("balance", ARGS), text()], spec(rust())))
    stream.until("tool_request")
    assert own.post("/v1/drain").status == 202
    refusal = own.start(request([text()], spec())).refusal()

    assert (refusal.status, refusal.error["kind"]) == (503, "busy")
    assert own.get("/healthz").body["draining"] is True
    assert stream.answer(stream.all("tool_request")[0], content=1).status == 204
    assert stream.finish().kind == "attempt_completed"
    assert own.process.wait(DEADLINE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_termination_cancels_every_attempt_says_so_and_exits(own: Runner, number: int) -> None:
    streams = [hanging(own), hanging(own)]
    own.process.send_signal(number)

    assert [stream.finish().kind for stream in streams] == ["attempt_cancelled"] * 2
    assert own.process.wait(DEADLINE) == 0


@pytest.mark.parametrize("tool", ["hang_in_thread", "hang_in_executor"])
def test_termination_is_not_held_up_by_a_thread(own: Runner, tool: str) -> None:
    stream = own.start(request([call(tool), text()], spec(python(tool))))
    stream.until("tool_started")
    own.process.send_signal(signal.SIGTERM)

    assert stream.finish().kind == "attempt_cancelled"
    assert own.process.wait(DEADLINE) == 0


def test_slow_reader_holds_the_attempt_up_instead_of_filling_memory(own: Runner) -> None:
    flood = {**text("x" * 4_000_000), "piece": 1000}
    slow = own.start(request([flood], spec()))
    quick = own.start(request([text()], spec()))

    assert quick.finish().kind == "attempt_completed"
    assert attempts(own) == 1
    assert slow.finish().data["output"] == flood["text"]


def test_attempt_that_holds_on_after_its_cancel_is_told(own: Runner, tmp_path: Path) -> None:
    file = tmp_path / "release"
    script = [call("clings", {"path": str(file)}), text()]
    stream = own.start(request(script, spec(python("clings"))))
    stream.until("tool_started")
    for _ in range(2):
        assert own.delete(stream).status == 202
    [left] = own.get("/healthz").body["unfinished"]
    assert left["run_id"] == stream.run_id
    assert left["tool"] == "the attempt"
    file.touch()
    stream.finish()
    wait_until_idle(own)
