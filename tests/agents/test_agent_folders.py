"""What holds for every agent of the folder, as far as Python can tell."""

import asyncio
from collections.abc import Sequence

import jsonschema_rs
import pytest
from agent_folder import AGENTS, AgentFolder, resolve
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from stand_in import Reply, last_prompt, stand_in

FOLDERS = [AgentFolder(file.parent.name) for file in sorted(AGENTS.glob("*/agent.toml"))]

each_agent = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_the_agents_are_there() -> None:
    assert {folder.name for folder in FOLDERS} >= {
        "bank_support",
        "fraud",
        "research_planner",
        "research_searcher",
        "research_writer",
        "triage",
    }


@each_agent
def test_every_python_target_of_the_agent_file_exists(folder: AgentFolder) -> None:
    assert folder.targets
    for target in folder.targets:
        assert resolve(target) is not None, target


@each_agent
def test_the_model_is_an_offline_one_unless_a_variable_names_another(folder: AgentFolder) -> None:
    model = resolve(folder.model)
    assert isinstance(model, FunctionModel)
    assert model.model_id == "function:offline"
    assert folder.config["model"] == f"${{AXON_MODEL:-python:{folder.model}}}"


@each_agent
def test_the_output_schema_is_one_that_allows_nothing_else(folder: AgentFolder) -> None:
    schema = folder.output_schema
    jsonschema_rs.meta.validate(schema)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert not jsonschema_rs.is_valid(schema, {"other": 1})


def test_agents_are_found_by_tag() -> None:
    tags = {folder.name: folder.config.get("tags", []) for folder in FOLDERS}
    assert [name for name in tags if "research" in tags[name]] == [
        "research_planner",
        "research_searcher",
        "research_writer",
    ]
    assert [name for name in tags if "bank" in tags[name]] == ["fraud", "triage"]


def test_a_prompt_with_images_is_read_as_its_text() -> None:
    first = ModelRequest([UserPromptPart("not this")])
    second = ModelRequest([UserPromptPart(["What is", "this?"])])
    assert last_prompt([first, second]) == "What is this?"
    assert last_prompt([]) == ""


def test_a_stand_in_says_what_its_function_decides() -> None:
    def echo(messages: Sequence[ModelMessage], info: AgentInfo) -> Reply:
        return f"{len(messages)} message, {len(info.function_tools)} tools"

    result = asyncio.run(Agent(stand_in(echo)).run("hello"))
    assert result.output == "1 message, 0 tools"
