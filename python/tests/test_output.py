"""Structured output: what fits the schema is the answer, what does not is asked again."""

from __future__ import annotations

import json

import pytest

from harness import Json, Runner
from support import BAD, GOOD, OUTPUT, answer, request, spec, structured, text

TREE: Json = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["n"],
        }
    },
}


@pytest.mark.parametrize("mode", ["auto", "tool", "native", "prompted"])
@pytest.mark.parametrize("streamed", [True, False])
def test_output_outside_the_schema_is_asked_again(
    shared: Runner, mode: str, streamed: bool
) -> None:
    def reply(value: Json) -> Json:
        return answer(value) if mode in ("auto", "tool") else text(json.dumps(value))

    script = [reply(BAD), reply(GOOD)]
    stream = shared.start(request(script, structured(mode=mode), stream=streamed))
    done = stream.finish()

    assert done.data["output"] == GOOD
    assert done.data["usage"]["requests"] == 2
    told = str(done.data["new_messages"][2]["parts"][0]["content"])
    assert "risk" in told
    assert "11 is greater than the maximum of 10" in told


@pytest.mark.parametrize("mode", ["tool", "prompted"])
def test_exhausted_output_retries_are_output_invalid(shared: Runner, mode: str) -> None:
    reply = answer(BAD) if mode == "tool" else text("no JSON")
    agent = structured(mode=mode) | {"retries": {"output": 1, "tools": 5}}
    stream = shared.start(request([reply], agent))
    done = stream.finish()

    assert done.kind == "attempt_failed"
    assert done.data["error"]["kind"] == "output_invalid"
    assert done.data["error"]["cause"]["class"]
    assert done.data["usage"]["requests"] == 2


WRAPPED: Json = {
    "type": "object",
    "properties": {
        "value": {
            "oneOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/properties/value"}}]
        }
    },
    "required": ["value"],
    "additionalProperties": False,
}
TAGGED: Json = {
    "type": "object",
    "properties": {
        "value": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "leaf"}, "n": {"type": "integer"}},
                    "required": ["kind", "n"],
                },
                {
                    "type": ["object", "null"],
                    "properties": {"kind": {"const": "fork"}, "left": {"$ref": "#/$defs/side"}},
                    "required": ["kind", "left"],
                },
            ]
        }
    },
    "required": ["value"],
    "additionalProperties": False,
    "$defs": {"side": {"anyOf": [{"$ref": "#/properties/value"}, {"type": "boolean"}]}},
}


@pytest.mark.parametrize("mode", ["auto", "tool", "native", "prompted"])
@pytest.mark.parametrize(
    ("schema", "bad", "good", "seen"),
    [
        (
            TREE,
            {"root": {"n": 1, "children": [{"n": "two"}]}},
            {"root": {"n": 1, "children": [{"n": 2}]}},
            "#/$defs/node",
        ),
        (WRAPPED, {"value": [[1]]}, {"value": [[], [[None]]]}, "#/properties/value"),
        (
            TAGGED,
            {"value": {"kind": "fork", "left": {"kind": "leaf"}}},
            {"value": {"kind": "fork", "left": {"kind": "leaf", "n": 1}}},
            "#/$defs/side",
        ),
    ],
    ids=["tree", "wrapped", "tagged"],
)
def test_recursive_schema_is_sent_whole_and_enforced_in_each_mode(
    shared: Runner, mode: str, schema: Json, bad: Json, good: Json, seen: str
) -> None:
    agent = spec(output={"schema": schema, "name": "answer_tree", "mode": mode})
    by_tool = mode in ("auto", "tool")
    shown = {"say": "output_schema", "args": bad}
    done = shared.start(
        request([shown, answer(good) if by_tool else text(json.dumps(good))], agent)
    ).finish()

    assert done.data["output"] == good
    assert done.data["usage"]["requests"] == 2
    assert f'"$ref": "{seen}"' in shared.printed()


@pytest.mark.parametrize(
    "unsendable",
    ['{"value": 1e400}', '{"value": ' + "9" * 400 + "}", '{"value": "\\ud800"}'],
)
@pytest.mark.parametrize("mode", ["tool", "prompted"])
def test_output_that_could_not_be_sent_is_asked_again(
    shared: Runner, mode: str, unsendable: str
) -> None:
    schema = {"type": "object", "properties": {"value": {}}, "required": ["value"]}
    good = {"value": 1}
    script = (
        [answer(unsendable), answer(good)]
        if mode == "tool"
        else [text(unsendable), text(json.dumps(good))]
    )
    done = shared.start(request(script, spec(output={"schema": schema, "mode": mode}))).finish()

    assert done.data["output"] == good
    assert done.data["usage"]["requests"] == 2


def test_name_and_description_of_the_schema_are_those_of_its_output(shared: Runner) -> None:
    agent = structured(mode="native")
    agent["output"]["schema"] = OUTPUT | {"title": "Advice", "description": "What to do."}
    shown = {"say": "output_schema", "args": GOOD}
    shared.start(request([shown], agent)).finish()

    assert "Advice: What to do." in shared.printed()


def test_name_of_the_output_names_its_tool(shared: Runner) -> None:
    agent = structured(mode="tool", name="advise", description="Advise.")
    stream = shared.start(request([answer(GOOD)], agent))
    stream.finish()

    assert stream.all("final_result")[0].data["tool_name"] == "advise"


def test_text_mode_is_plain_text(shared: Runner) -> None:
    agent = spec(output={"mode": "text"})

    assert shared.start(request([text("{}")], agent)).finish().data["output"] == "{}"


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ({"mode": "tool"}, "needs a schema"),
        ({"schema": {"type": "array"}}, "type object"),
        ({"schema": {"type": "object", "properties": {"a": {"type": "nope"}}}}, "JSON Schema"),
        ({"schema": {"type": "object", "$ref": "https://example.com/x"}}, "not followed"),
        ({"mode": "poem", "schema": OUTPUT}, "output.mode"),
        ({"shema": OUTPUT}, "output.shema"),
    ],
)
def test_output_that_cannot_be_asked_for_is_refused(
    shared: Runner, output: Json, fault: str
) -> None:
    refusal = shared.start(request([text()], spec(output=output))).refusal()

    assert (refusal.status, refusal.error["kind"]) == (400, "config")
    assert fault in refusal.error["message"]


def test_output_nested_too_deeply_is_asked_again(shared: Runner) -> None:
    deep: object = 1
    for _ in range(63):
        deep = [deep]
    schema = {"type": "object", "properties": {"value": {}}}
    script = [answer({"value": [[deep]]}), answer({"value": 1})]
    done = shared.start(request(script, spec(output={"schema": schema}))).finish()

    assert done.data["output"] == {"value": 1}
    assert done.data["usage"]["requests"] == 2
