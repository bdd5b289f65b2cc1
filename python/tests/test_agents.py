"""Agents as data, and agents that are defined in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness import Answer, Json, Runner
from support import BAD, CALLABLES, GOOD, answer, call, python, request, rust, spec, text

HELPDESK = "helpdesk:agent"


@pytest.fixture(scope="module")
def helpdesk() -> Iterator[Runner]:
    """A runner of an agent defined in Python."""
    with Runner(
        module=HELPDESK, callables=CALLABLES, env={"PROVIDER_KEY": "sk-12345678"}
    ) as runner:
        assert runner.first["type"] == "ready", runner.first
        yield runner
        runner.release()


def validate(runner: Runner, agent: Json, **fields: Any) -> Answer:
    """Builds an agent only."""
    return runner.post("/v1/agents/validate", {"spec": agent, **fields})


class TestData:
    """Agents as data."""

    def test_valid_spec_names_its_model(self, shared: Runner) -> None:
        assert validate(shared, spec(python("balance"), rust("other"))).body == {
            "model": "function:offline",
            "offline": True,
        }

    @pytest.mark.parametrize(
        ("model", "resolved", "offline"),
        [
            ("python:scripted:made", "function:offline", True),
            ("python:scripted:named", "test:test", True),
            ("test", "test:test", True),
        ],
    )
    def test_model_is_an_object_or_a_name(
        self, shared: Runner, model: str, resolved: str, offline: bool
    ) -> None:
        body = validate(shared, {"model": model}).body

        assert body == {"model": resolved, "offline": offline}

    @pytest.mark.parametrize(
        ("agent", "fault"),
        [
            ({}, "no model"),
            ({"model": "python:scripted:reply"}, "not registered as a model"),
            ({"model": "python:scripted:wrong"}, "gives a int, not a model"),
            ({"model": "gpt-5"}, "gpt-5"),
            ({"model": "nobody:gpt"}, "Unknown model"),
            ({"model": "openai:gpt-5"}, "OPENAI_API_KEY"),
            (spec(surprise=1), "surprise"),
            (spec(name=None, retries=-1), "retries"),
            (spec(retries="1"), "retries"),
            (spec(tool_timeout="1"), "tool_timeout"),
            (spec(rust(timeout="1")), "tools.0.timeout"),
            (spec(end_strategy="never"), "end_strategy"),
            (spec(model_settings={"temprature": 1}), "temprature"),
            (spec(capabilities=[{"NoSuchCapability": {}}]), "NoSuchCapability"),
            (spec(python("no_such_tool")), "tools:no_such_tool is not registered as a tool"),
            (spec(python("not_a_function")), "cannot be a tool"),
            (spec({"name": "x", "target": "python:os.path"}), "tools.0.target"),
            (spec(rust(), rust()), "the name 'balance'"),
            (spec(rust(parameters={"type": "nope"})), "JSON Schema"),
            (spec(rust(effect="twice")), "tools.0.effect"),
            (spec(deps_factory="deps:lifespan"), "not registered as a deps_factory"),
            (spec(module="helpdesk:agent"), "not the agent that this runner was launched with"),
        ],
    )
    def test_spec_that_cannot_be_built_is_refused(
        self, shared: Runner, agent: Json, fault: str
    ) -> None:
        refusal = validate(shared, agent)

        assert refusal.status == 400
        assert refusal.error["kind"] == "config"
        assert fault in refusal.error["message"]
        assert shared.start(request([text()], agent)).refusal().status == 400

    def test_deps_are_checked_when_they_are_given(self, shared: Runner) -> None:
        agent = spec(deps_factory="deps:coroutine")

        assert validate(shared, agent).status == 200
        assert validate(shared, agent, deps={"customer_id": 1}).status == 200
        assert validate(shared, agent, deps={}).status == 400

    def test_capabilities_of_pydantic_ai_can_be_named(self, shared: Runner) -> None:
        capability = {"SetToolMetadata": {"metadata": {"team": "bank"}}}
        script = [call("balance", {"include_pending": True}), text()]
        agent = spec(python("balance"), capabilities=[capability])

        assert shared.start(request(script, agent)).finish().kind == "attempt_completed"


class TestProvider:
    """Where the model's provider is."""

    def test_base_url_and_key_are_given_to_the_provider(self, helpdesk: Runner) -> None:
        provider = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "PROVIDER_KEY"}
        agent = {"model": "openai-chat:gpt-5", "provider": provider}
        valid = validate(helpdesk, agent)
        done = helpdesk.start(request([], agent, prompt="Hello")).finish()

        assert valid.body == {"model": "openai:gpt-5", "offline": False}
        error = done.data["error"]
        assert (error["kind"], error["phase"]) == ("model_connection", "connect")
        assert "sk-12345678" not in str(done.data)

    @pytest.mark.parametrize(
        ("provider", "fault"),
        [({"api_key_env": "NO_KEY"}, "NO_KEY is not set"), ({"region": "x"}, "provider.region")],
    )
    def test_provider_that_cannot_be_used_is_refused(
        self, helpdesk: Runner, provider: Json, fault: str
    ) -> None:
        refusal = validate(helpdesk, {"model": "openai-chat:gpt-5", "provider": provider})

        assert (refusal.status, refusal.error["kind"]) == (400, "config")
        assert fault in refusal.error["message"]


class TestModule:
    """Agents that are defined in Python."""

    CUSTOMER: Json = {"name": "John"}  # noqa: RUF012

    def run(self, runner: Runner, script: list[Json], **fields: Any) -> Any:
        """Starts the agent with a script."""
        agent = {"module": HELPDESK, **fields.pop("spec", {})}
        return runner.start(request(script, agent, deps=self.CUSTOMER, **fields))

    @pytest.mark.parametrize("streamed", [True, False])
    def test_agent_runs_unmodified(self, helpdesk: Runner, streamed: bool) -> None:
        stream = self.run(helpdesk, [call("who"), answer(GOOD)], stream=streamed)
        done = stream.finish()

        assert done.data["output"] == GOOD
        assert stream.all("tool_started")[0].data["permit"] is True
        assert stream.all("tool_finished")[0].data["result"] == "John is 30"

    def test_effect_of_its_tools_is_what_the_spec_says(self, helpdesk: Runner) -> None:
        own = [{"name": "who", "target": "module", "effect": "pure"}]
        stream = self.run(helpdesk, [call("who"), answer(GOOD)], spec={"tools": own})
        done = stream.finish()

        assert done.data["output"] == GOOD
        started = stream.all("tool_started")[0].data
        assert (started["effect"], started["permit"]) == ("pure", False)

    def test_tool_that_it_does_not_bring_is_refused(self, helpdesk: Runner) -> None:
        own = [{"name": "whom", "target": "module"}]
        refusal = validate(helpdesk, {"module": HELPDESK, "tools": own})

        assert (refusal.status, refusal.error["kind"]) == (400, "config")
        assert "no tool whom; it brings: breaks, sleeps, who" in refusal.error["message"]

    def test_agent_as_data_brings_no_tools(self, helpdesk: Runner) -> None:
        refusal = validate(helpdesk, spec({"name": "who", "target": "module"}))

        assert refusal.status == 400
        assert "only an agent defined in Python" in refusal.error["message"]

    def test_output_outside_its_type_is_asked_again(self, helpdesk: Runner) -> None:
        script = [answer({"advice": 5}), answer(GOOD)]

        assert self.run(helpdesk, script).finish().data["output"] == GOOD

    def test_its_tools_fail_with_the_call_they_belong_to(self, helpdesk: Runner) -> None:
        done = self.run(helpdesk, [call("breaks"), answer(GOOD)]).finish()

        error = done.data["error"]
        assert (error["kind"], error["class"]) == ("tool", "RuntimeError")
        assert error["tool"] == {"tool_call_id": "c1", "name": "breaks"}

    def test_its_recorded_tools_are_not_called_again(self, helpdesk: Runner) -> None:
        stream = self.run(helpdesk, [call("breaks"), answer(GOOD)], recorded={"c1": "mended"})

        assert stream.finish().kind == "attempt_completed"
        assert "tool_started" not in stream.kinds()

    def test_deps_that_do_not_fit_its_type_are_refused(self, helpdesk: Runner) -> None:
        body = request([text()], {"module": HELPDESK}, deps={"age": "old"})
        refusal = helpdesk.start(body).refusal()

        assert (refusal.status, refusal.error["phase"]) == (400, "deps")
        assert "name: Field required" in refusal.error["message"]

    def test_spec_adds_tools_and_overrides_output_and_model(self, helpdesk: Runner) -> None:
        schema = {
            "type": "object",
            "properties": {"verdict": {"type": "string", "maxLength": 3}},
            "required": ["verdict"],
        }
        overrides = {
            "model": "python:scripted:made",
            "tools": [rust("lookup")],
            "output": {"schema": schema},
            "retries": {"output": 2},
            "model_settings": {"temperature": 0.5},
            "metadata": {"team": "bank"},
        }
        script = [
            call("lookup", {"include_pending": True}),
            answer({"verdict": "maybe"}),
            answer({"verdict": "yes"}),
        ]
        stream = self.run(helpdesk, script, spec=overrides)
        done = stream.finish(lambda event: {"content": "found"})

        assert done.data["output"] == {"verdict": "yes"}
        assert stream.all("tool_request")[0].data["name"] == "lookup"

    def test_deps_factory_replaces_its_deps(self, helpdesk: Runner) -> None:
        overrides = {
            "deps_factory": "deps:nothing",
            "tools": [python("describes_deps")],
        }
        stream = self.run(helpdesk, [call("describes_deps"), answer(GOOD)], spec=overrides)
        stream.finish()

        result = stream.all("tool_finished")[0].data["result"]
        assert result == "Bank(customer=0, made_by='nothing')"

    @pytest.mark.parametrize("key", ["end_strategy", "name", "description"])
    def test_what_cannot_be_overridden_is_refused(self, helpdesk: Runner, key: str) -> None:
        refusal = validate(helpdesk, {"module": HELPDESK, key: "early"})

        assert (refusal.status, refusal.error["kind"]) == (400, "config")
        assert f"{key} of helpdesk:agent cannot be overridden" in refusal.error["message"]

    def test_schema_describes_it(self, helpdesk: Runner) -> None:
        agent = helpdesk.get("/v1/schema").body["agent"]

        assert (agent["name"], agent["model"]) == ("helpdesk", "function:offline")
        assert agent["instructions"] is True
        assert {tool["name"]: tool["description"] for tool in agent["tools"]} == {
            "who": "Says who the customer is.",
            "sleeps": "Sleeps in a thread until the file is there, and says so in another one.",
            "breaks": "Raises.",
        }
        assert agent["output"]["properties"].keys() == GOOD.keys()
        assert agent["deps"]["properties"].keys() == {"name", "age"}

    def test_exhausted_output_is_output_invalid(self, helpdesk: Runner) -> None:
        done = self.run(helpdesk, [answer({**BAD, "risk": "high"})]).finish()

        assert done.data["error"]["kind"] == "output_invalid"


@pytest.mark.parametrize(
    ("module", "fault"),
    [("helpdesk:with_handle", "name a deps factory"), ("helpdesk:no_model", "no model")],
)
def test_agent_that_lacks_something_is_refused(module: str, fault: str) -> None:
    with Runner(module=module) as runner:
        refusal = validate(runner, {"module": module})
        schema = runner.get("/v1/schema").body["agent"]

        assert (refusal.status, refusal.error["kind"]) == (400, "config")
        assert fault in refusal.error["message"]
        assert schema["deps"] is None


def test_toolset_that_cannot_be_entered_fails_the_attempt_as_toolset() -> None:
    with Runner(module="helpdesk:with_toolset") as runner:
        done = runner.start(request([text()], {"module": "helpdesk:with_toolset"})).finish()

        error = done.data["error"]
        assert (error["kind"], error["message"]) == ("toolset", "Client failed to connect")
