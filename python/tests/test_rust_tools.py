"""Tools that Rust runs: the call goes down the stream, the result comes as a request."""

from __future__ import annotations

import pytest

from axon_runner.refusals import Refusals
from harness import Event, Json, Runner
from support import CALLABLES, call, calls, python, request, rust, spec, text

ARGS: Json = {"include_pending": True}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def returns(message: Json) -> Json:
    """The first part of a recorded request."""
    part: Json = message["parts"][0]
    return part


def test_result_of_rust_reaches_the_model(shared: Runner) -> None:
    script = [call("balance", ARGS), text()]
    tool = rust(timeout=5, description="The balance.")
    stream = shared.start(request(script, spec(tool)))
    done = stream.finish(lambda event: {"content": {"amount": "$5"}})

    asked = stream.all("tool_request")[0].data
    assert asked == {
        "tool_call_id": "c1",
        "step": 1,
        "name": "balance",
        "args": ARGS,
        "retry": 0,
        "max_retries": 1,
        "approved": False,
        "timeout": 5,
    }
    assert returns(done.data["new_messages"][2])["content"] == {"amount": "$5"}
    assert "tool_started" not in stream.kinds()


def test_null_result_survives_in_the_recorded_history(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    done = stream.finish(lambda event: {"content": None})
    part = returns(done.data["new_messages"][2])
    again = request([text("unused")], spec(), message_history=done.data["new_messages"])

    assert part["content"] is None
    assert shared.start(again).finish().kind == "attempt_completed"


def test_retry_asks_the_model_again_with_the_message(shared: Runner) -> None:
    answers = iter(
        [{"status": "retry", "message": "Which account?"}, {"status": "ok", "content": "$5"}]
    )
    script = [call("balance", ARGS, "a"), call("balance", ARGS, "b"), text()]
    stream = shared.start(request(script, spec(rust())))
    done = stream.finish(lambda event: next(answers))

    first, second = stream.all("tool_request")
    assert (first.data["retry"], second.data["retry"]) == (0, 1)
    assert (first.data["step"], second.data["step"]) == (1, 3)
    part = returns(done.data["new_messages"][2])
    assert "Which account?" in str(part["content"])
    assert part["outcome"] == "retried"
    assert done.kind == "attempt_completed"


def test_exhausted_retries_name_the_tool(shared: Runner) -> None:
    script = [call("balance", ARGS, "a"), call("balance", ARGS, "b"), text()]
    stream = shared.start(request(script, spec(rust(max_retries=1))))
    done = stream.finish(lambda event: {"status": "retry", "message": "No."})

    assert done.kind == "attempt_failed"
    assert done.data["error"]["kind"] == "model_behavior"
    assert done.data["error"]["tool"] == {"tool_call_id": "b", "name": "balance"}


def test_failed_tells_the_model_without_using_up_retries(shared: Runner) -> None:
    script = [call("balance", ARGS), text("Sorry.")]
    stream = shared.start(request(script, spec(rust(max_retries=0))))
    done = stream.finish(lambda event: {"status": "failed", "message": "No such customer."})

    part = returns(done.data["new_messages"][2])
    assert (part["outcome"], part["content"]) == ("failed", "No such customer.")
    assert done.data["output"] == "Sorry."


def test_error_ends_the_attempt_and_names_the_call(shared: Runner) -> None:
    error = {"status": "error", "kind": "StoreError", "message": "disk full", "retryable": True}
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    done = stream.finish(lambda event: error)

    expected = {
        "kind": "tool",
        "class": "StoreError",
        "message": "disk full",
        "retryable": True,
        "tool": {"tool_call_id": "c1", "name": "balance"},
    }
    assert expected.items() <= done.data["error"].items()


def test_parallel_calls_are_asked_at_once_and_answered_in_any_order(shared: Runner) -> None:
    script = [calls(("balance", ARGS, "a"), ("balance", ARGS, "b")), text()]
    stream = shared.start(request(script, spec(rust())))
    first, second = stream.until("tool_request"), stream.until("tool_request")
    assert stream.answer(second, content="second").status == 204
    assert stream.answer(first, content="first").status == 204
    done = stream.finish()

    parts = done.data["new_messages"][2]["parts"]
    assert [(p["tool_call_id"], p["content"]) for p in parts] == [("a", "first"), ("b", "second")]


def test_sequential_tool_waits_for_the_one_before(shared: Runner) -> None:
    script = [calls(("balance", ARGS, "a"), ("balance", ARGS, "b")), text()]
    stream = shared.start(request(script, spec(rust(sequential=True))))
    first = stream.until("tool_request")
    assert stream.answer(first, content="first").status == 204

    assert stream.until("tool_request").data["tool_call_id"] == "b"


def test_sibling_of_a_broken_tool_is_cancelled(shared: Runner) -> None:
    script = [calls(("balance", ARGS, "a"), ("boom", {}, "b")), text()]
    stream = shared.start(request(script, spec(rust(), python("boom"))))
    request_seen: list[Event] = []
    for event in stream:
        stream.permit_if_asked(event)
        if event.kind == "tool_request":
            request_seen.append(event)

    assert [event.data["tool_call_id"] for event in request_seen] == ["a"]
    assert stream.all("tool_request_cancelled")[0].data == {"tool_call_id": "a"}
    assert stream.seen[-1].data["error"]["tool"]["name"] == "boom"


@pytest.mark.parametrize(
    "args",
    [
        {"include_pending": "yes"},
        {},
        {"include_pending": True, "extra": 1},
        '{"include_pending": NaN}',
        '{"include_pending": tr',
        "[]",
    ],
)
def test_invalid_arguments_are_asked_again_and_never_reach_rust(
    shared: Runner, args: object
) -> None:
    script = [call("balance", args, "bad"), call("balance", ARGS, "good"), text()]
    stream = shared.start(request(script, spec(rust())))
    done = stream.finish(lambda event: {"content": "$5"})

    assert [event.data["tool_call_id"] for event in stream.all("tool_request")] == ["good"]
    assert returns(done.data["new_messages"][2])["outcome"] == "retried"
    assert done.kind == "attempt_completed"


def test_recursive_parameters_are_enforced(shared: Runner) -> None:
    tree = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}},
                "required": ["n"],
            }
        },
    }
    bad, good = {"root": {"n": 1, "next": {"n": "x"}}}, {"root": {"n": 1, "next": {"n": 2}}}
    script = [call("balance", bad, "bad"), call("balance", good, "good"), text()]
    stream = shared.start(request(script, spec(rust(parameters=tree))))
    stream.finish(lambda event: {"content": "ok"})

    assert [event.data["args"] for event in stream.all("tool_request")] == [good]


def test_unknown_tool_is_asked_again(shared: Runner) -> None:
    script = [call("no_such_tool"), call("balance", ARGS), text()]
    stream = shared.start(request(script, spec(rust())))
    done = stream.finish(lambda event: {"content": "$5"})

    assert done.kind == "attempt_completed"
    assert returns(done.data["new_messages"][2])["outcome"] == "retried"


def test_answer_that_nobody_waits_for_is_refused(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    asked = stream.until("tool_request")
    foreign = Event("tool_request", 0, {"tool_call_id": "foreign"})

    assert stream.answer(foreign, content=1).status == 404
    assert stream.answer(asked, content=1).status == 204
    assert stream.answer(asked, content=2).status == 404
    assert stream.finish().kind == "attempt_completed"
    assert stream.answer(asked, content=3).status == 410


def test_refused_answers_are_in_the_log() -> None:
    with Runner(callables=CALLABLES) as runner:
        stream = runner.start(request([call("balance", ARGS), text()], spec(rust())))
        asked = stream.until("tool_request")
        foreign = Event("tool_request", 0, {"tool_call_id": "foreign"})
        assert stream.answer(foreign, content=1).status == 404
        assert stream.answer(asked, content=1).status == 204
        stream.finish()
        assert stream.answer(asked, content=2).status == 410
        assert runner.call("GET", "/healthz", authorization="Bearer wrong").status == 401

        told = [runner.record() for _ in range(3)]
        assert [(t["level"], t["fields"]["status"]) for t in told] == [
            ("warn", 404),
            ("info", 410),
            ("warn", 401),
        ]
        path = f"POST /v1/runs/{stream.run_id}/tool_results"
        assert [t["fields"]["request"] for t in told] == [path, path, "GET /healthz"]
        assert "no call foreign waits" in told[0]["message"]


def test_refusals_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    for _ in range(70):
        refusals.tell(404, "POST /v1/tools/os:system/call", "there is none")

    assert len(caplog.records) == 60


def test_trace_context_is_carried_to_the_tool_request(shared: Runner) -> None:
    run = request([call("balance", ARGS), text()], spec(rust()))
    stream = shared.start(run, traceparent=TRACEPARENT)
    stream.finish(lambda event: {"content": 1})

    assert stream.all("tool_request")[0].data["traceparent"] == TRACEPARENT
