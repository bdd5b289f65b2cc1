"""Going on from a checkpoint, after a crash or after an approval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import Event, Json, Runner, Stream
from support import GOOD, answer, call, calls, python, request, rust, spec, structured, text

ARGS: Json = {"include_pending": True}


def resumed(first: Json, **fields: Any) -> Json:
    """The next attempt of a run, without a prompt."""
    return {**first, "attempt": first["attempt"] + 1, "prompt": None, **fields}


def crash_at(stream: Stream, kind: str) -> list[Json]:
    """Reads up to an event, hangs up, and returns what was recorded."""
    stream.until(kind)
    stream.hang_up()
    return stream.recorded()


def test_pending_tools_run_after_a_crash_and_the_model_is_not_asked_again(
    shared: Runner,
) -> None:
    script = [call("balance", ARGS), text()]
    first = request(script, spec(rust()))
    history = crash_at(shared.start(first), "tool_request")
    stream = shared.start(resumed(first, message_history=history))
    done = stream.finish(lambda event: {"content": "$5"})

    assert done.data["output"] == "Done."
    assert done.data["usage"]["requests"] == 1
    asked = stream.all("tool_request")[0].data
    assert (asked["tool_call_id"], asked["step"]) == ("c1", 1)
    assert stream.recorded() == history + done.data["new_messages"]


def test_first_node_of_a_resume_needs_no_permit(shared: Runner) -> None:
    first = request([call("balance", ARGS), text()], spec(rust()))
    history = crash_at(shared.start(first), "tool_request")
    stream = shared.start(resumed(first, message_history=history, stream=False))

    assert [stream.next_kind(), stream.next_kind()] == ["attempt_started", "tool_request"]


def test_tool_results_are_not_lost_when_the_model_was_about_to_be_asked(shared: Runner) -> None:
    script = [call("balance", ARGS), text()]
    first = request(script, spec(rust()))
    before = shared.start(first)
    for event in before:
        if event.kind == "checkpoint" and event.data["before"] == "model":
            break
        before.permit_if_asked(event)
        if event.kind == "tool_request":
            before.answer(event, content="$5")
    history = before.recorded()
    before.hang_up()
    stream = shared.start(resumed(first, message_history=history))
    done = stream.finish()

    assert done.kind == "attempt_completed"
    assert "tool_request" not in stream.kinds()
    assert done.data["usage"]["requests"] == 1
    assert [m["kind"] for m in stream.recorded()] == ["request", "response", "request", "response"]
    assert stream.recorded()[2]["parts"] == history[2]["parts"]


def test_nothing_that_finished_runs_twice(shared: Runner, tmp_path: Path) -> None:
    done_file, rest_file = tmp_path / "done", tmp_path / "rest"
    script = [
        calls(
            ("count", {"path": str(done_file)}, "a"),
            ("balance", ARGS, "b"),
            ("count", {"path": str(rest_file)}, "c"),
        ),
        text(),
    ]
    first = request(script, spec(python("count"), rust()))
    before = shared.start(first)
    finished: Json = {}
    for event in before:
        if event.kind == "tool_started" and event.data["tool_call_id"] == "c":
            continue
        before.permit_if_asked(event)
        if event.kind == "tool_finished":
            finished[event.data["tool_call_id"]] = event.data["result"]
            break
    before.hang_up()
    again = resumed(first, message_history=before.recorded(), recorded=finished)
    stream = shared.start(again)
    done = stream.finish(lambda event: {"content": "$5"})

    assert finished == {"a": 1}
    assert (done_file.read_text(), rest_file.read_text()) == ("called\n", "called\n")
    contents = [part["content"] for part in done.data["new_messages"][0]["parts"]]
    assert contents == [1, "$5", 1]


def approval(event: Event) -> Json:
    """The only request of a pause."""
    requests: list[Json] = event.data["requests"]
    assert len(requests) == 1
    return requests[0]


@pytest.mark.parametrize("host", ["rust", "python"])
def test_tool_that_needs_approval_pauses_and_goes_on_when_approved(
    shared: Runner, host: str
) -> None:
    tool = rust if host == "rust" else python
    agent = structured(tool("balance", requires_approval=True))
    first = request([call("balance", ARGS), answer(GOOD)], agent)
    before = shared.start(first)
    paused = before.finish()

    assert paused.kind == "attempt_paused"
    assert {"tool_call_id": "c1", "name": "balance", "args": ARGS}.items() <= approval(
        paused
    ).items()
    assert before.recorded() == paused.data["new_messages"]
    assert not {"tool_request", "tool_started"} & set(before.kinds())

    approvals = {"approvals": {"c1": True}}
    again = resumed(first, message_history=before.recorded(), deferred_tool_results=approvals)
    stream = shared.start(again)
    done = stream.finish(lambda event: {"content": "$5"})

    assert done.data["output"] == GOOD
    if host == "rust":
        assert stream.all("tool_request")[0].data["approved"] is True
    else:
        assert stream.all("tool_finished")[0].data["result"] == "$123.45"


def test_denied_tool_does_not_run_and_the_model_is_told(shared: Runner) -> None:
    first = request([call("balance", ARGS), text()], spec(rust(requires_approval=True)))
    before = shared.start(first)
    before.finish()
    denied = {"approvals": {"c1": {"kind": "tool-denied", "message": "Not today."}}}
    again = resumed(first, message_history=before.recorded(), deferred_tool_results=denied)
    stream = shared.start(again)
    done = stream.finish()

    part = done.data["new_messages"][0]["parts"][0]
    assert (part["content"], part["outcome"]) == ("Not today.", "denied")
    assert "tool_request" not in stream.kinds()


def test_approval_may_change_the_arguments(shared: Runner) -> None:
    first = request([call("balance", ARGS), text()], spec(rust(requires_approval=True)))
    before = shared.start(first)
    before.finish()
    changed = {"kind": "tool-approved", "override_args": {"include_pending": False}}
    results = {"approvals": {"c1": changed}}
    stream = shared.start(
        resumed(first, message_history=before.recorded(), deferred_tool_results=results)
    )
    stream.finish(lambda event: {"content": "$5"})

    assert stream.all("tool_request")[0].data["args"] == {"include_pending": False}


def test_other_tools_of_the_batch_run_before_the_pause_and_only_once(
    shared: Runner, tmp_path: Path
) -> None:
    file = tmp_path / "calls"
    script = [calls(("count", {"path": str(file)}, "a"), ("balance", ARGS, "b")), text()]
    first = request(script, spec(python("count"), rust(requires_approval=True)))
    before = shared.start(first)
    paused = before.finish()
    results = {"approvals": {"b": True}}
    stream = shared.start(
        resumed(first, message_history=before.recorded(), deferred_tool_results=results)
    )
    done = stream.finish(lambda event: {"content": "$5"})

    assert approval(paused)["tool_call_id"] == "b"
    assert file.read_text() == "called\n"
    assert done.kind == "attempt_completed"


def test_function_that_asks_for_approval_pauses_the_run(shared: Runner) -> None:
    first = request([call("asks"), text()], spec(python("asks")))
    before = shared.start(first)
    paused = before.finish()
    results = {"approvals": {"c1": True}}
    stream = shared.start(
        resumed(first, message_history=before.recorded(), deferred_tool_results=results)
    )
    stream.finish()

    assert approval(paused)["metadata"] == {"why": "money"}
    assert approval(paused)["kind"] == "approval"
    assert stream.all("tool_finished")[0].data["result"] == "approved"


def test_function_that_defers_pauses_the_run_until_its_result_is_given(shared: Runner) -> None:
    first = request([call("defers"), text()], spec(python("defers")))
    before = shared.start(first)
    paused = before.finish()
    results = {"calls": {"c1": {"found": "elsewhere"}}}
    stream = shared.start(
        resumed(first, message_history=before.recorded(), deferred_tool_results=results)
    )
    done = stream.finish()

    assert approval(paused)["kind"] == "external"
    assert done.data["new_messages"][0]["parts"][0]["content"] == {"found": "elsewhere"}
