"""What Rust decides in the middle of an attempt: answers, approvals, and the state of the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import Json, Runner
from support import GOOD, answer, call, request, rust, spec, structured, text

TOOLS = ("add", "drop", "spoil", "asks_again", "leak")
ARGS: Json = {"include_pending": True}

SECRET = "canary-9f3a77c1"
DEPS: Json = {
    "type": "object",
    "properties": {"customer": {"type": "integer"}},
    "required": ["customer"],
}


@pytest.fixture
def baskets() -> Iterator[Runner]:
    """A runner with the tools of `basket`."""
    model: Json = {"target": "scripted:model", "role": "model"}
    tools = [{"target": f"basket:{name}", "role": "tool", "effect": "pure"} for name in TOOLS]
    with Runner(callables=[model, *tools]) as runner:
        yield runner


def basket(*more: Json) -> Json:
    """An agent with the tools of `basket`."""
    tools = [{"name": name, "target": f"python:basket:{name}"} for name in TOOLS]
    return spec(*tools, *more)


def test_rust_looks_at_an_answer_and_the_model_is_asked_again(shared: Runner) -> None:
    better = {**GOOD, "advice": "Call us at once."}
    script = [answer(GOOD, "a"), answer(better, "b")]
    verdicts = iter([{"status": "retry", "message": "say when"}, {"status": "ok"}])
    stream = shared.start(request(script, structured() | {"validate_output": True}))
    done = stream.finish(lambda _: next(verdicts))
    checked = [event.data for event in stream.all("output_check")]
    assert done.kind == "attempt_completed"
    assert done.data["output"] == better
    assert [asked["output"] for asked in checked] == [GOOD, better]
    assert [asked["retry"] for asked in checked] == [0, 1]


@pytest.mark.parametrize("status", ["error", "failed"])
def test_a_validator_that_breaks_ends_the_attempt(shared: Runner, status: str) -> None:
    stream = shared.start(request([answer(GOOD)], structured() | {"validate_output": True}))
    done = stream.finish(lambda _: {"status": status, "message": "it panicked"})
    assert done.kind == "attempt_failed"
    assert done.data["error"]["kind"] == "tool"
    assert "it panicked" in done.data["error"]["message"]


def test_text_is_looked_at_too(shared: Runner) -> None:
    stream = shared.start(request([text("hi")], spec(validate_output=True)))
    done = stream.finish(lambda event: {"status": "ok"})
    assert stream.all("output_check")[0].data["output"] == "hi"
    assert done.data["output"] == "hi"


def test_a_rust_tool_can_ask_a_person(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS)], spec(rust())))
    metadata = {"reason": "it is a gold card"}
    done = stream.finish(lambda _: {"status": "needs_approval", "metadata": metadata})
    assert done.kind == "attempt_paused"
    asked = done.data["requests"][0]
    assert (asked["kind"], asked["metadata"]) == ("approval", metadata)


def test_the_answer_of_a_person_is_the_result_of_the_call(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS)], spec(rust())))
    metadata = {"question": "Block it?"}
    done = stream.finish(lambda _: {"status": "needs_answer", "metadata": metadata})
    assert done.kind == "attempt_paused"
    asked = done.data["requests"][0]
    assert asked["kind"] in ("external", "question")
    assert asked["metadata"] == metadata


def test_the_usage_of_another_agent_counts_as_the_runs_own(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    usage = {"requests": 3, "input_tokens": 1000, "output_tokens": 7, "cost": "0.25"}
    done = stream.finish(lambda _: {"content": "asked", "usage": usage})
    assert done.data["usage"]["requests"] == 5
    assert done.data["usage"]["input_tokens"] >= 1000


def test_deps_are_held_to_their_schema(shared: Runner) -> None:
    agent = spec(deps_schema=DEPS)
    refused = shared.post("/v1/runs", request([text()], agent, deps={"customer": "x"}))
    assert refused.status == 400
    assert "customer" in refused.error["message"]
    fits = shared.start(request([text()], agent, deps={"customer": 7}))
    assert fits.finish().kind == "attempt_completed"


def test_python_tools_change_the_state_and_tell_it_with_their_result(baskets: Runner) -> None:
    script = [
        call("add", {"item": "a"}, "c1"),
        call("add", {"item": "b"}, "c2"),
        call("drop", {"key": "draft"}, "c3"),
        call("drop", {"key": "gone"}, "c4"),
        text(),
    ]
    begun = request(script, basket(), state={"draft": 1, "kept": [None]})
    stream = baskets.start(begun)
    assert stream.finish().kind == "attempt_completed"
    told = [event.data.get("state") for event in stream.all("tool_finished")]
    assert told == [
        {"set": {"items": ["a"]}, "removed": []},
        {"set": {"items": ["a", "b"]}, "removed": []},
        {"set": {}, "removed": ["draft"]},
        None,
    ]


def test_what_rust_tools_change_python_tools_see(baskets: Runner) -> None:
    change = {"set": {"items": ["from rust"]}, "removed": ["draft"]}
    script = [call("balance", ARGS, "c1"), call("add", {"item": "b"}, "c2"), text()]
    stream = baskets.start(request(script, basket(rust()), state={"draft": 1}))
    stream.finish(lambda _: {"content": 1, "patches": [change]})
    told = stream.all("tool_finished")[0].data["state"]
    assert told == {"set": {"items": ["from rust", "b"]}, "removed": []}


def test_a_state_without_a_json_form_breaks_the_tool_that_made_it(baskets: Runner) -> None:
    stream = baskets.start(request([call("spoil"), text()], basket(), state={"a": 1}))
    done = stream.finish()
    assert done.data["error"]["kind"] == "tool"
    assert "state" in done.data["error"]["message"]
    assert done.data["error"]["tool"]["name"] == "spoil"


def test_a_change_of_a_call_that_is_made_again_stands(baskets: Runner) -> None:
    stream = baskets.start(request([call("asks_again"), text()], basket(), state={"a": 1}))
    stream.finish()
    finished = stream.all("tool_finished")[0].data
    assert (finished["outcome"], finished["state"]["set"]) == ("retry", {"asked": True})


def test_secrets_in_deps_are_in_nothing_that_is_told(baskets: Runner) -> None:
    begun = request([call("leak")], basket(), deps={"key": SECRET}, secrets=[SECRET])
    stream = baskets.start(begun)
    error = stream.finish().data["error"]
    assert SECRET not in str(error)
    assert "[redacted]" in str(error)


def test_patches_of_another_form_are_refused(shared: Runner) -> None:
    stream = shared.start(request([call("balance", ARGS), text()], spec(rust())))
    asked = stream.until("tool_request")
    wrong = stream.answer(asked, patches=[{"set": 1}])
    assert wrong.status == 400
    assert stream.answer(asked, content=1).status == 204
