"""The bank_support agent, as pydantic-ai runs it: real database, offline model."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from bank_support import offline, prompts, tools
from bank_support.database import database_path
from bank_support.deps import CustomerNotFound, SupportDeps, make
from pydantic_ai import (
    Agent,
    AgentRunResult,
    ModelMessage,
    ModelRetry,
    NativeOutput,
    StructuredDict,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter, ToolCallPart

FOLDER = Path(offline.__file__).parent
CONFIG: dict[str, Any] = tomllib.loads((FOLDER / "agent.toml").read_text(encoding="utf-8"))
OUTPUT_SCHEMA: dict[str, Any] = json.loads((FOLDER / "output.schema.json").read_text("utf-8"))
OUTPUT = StructuredDict(OUTPUT_SCHEMA)

Answer = dict[str, Any]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AXON_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def agent(output: Any = OUTPUT, **changes: Any) -> Agent[SupportDeps, Any]:
    settings: dict[str, Any] = {"tools": [tools.customer_balance], **changes}
    return Agent(
        offline.model,
        deps_type=SupportDeps,
        output_type=output,
        instructions=[CONFIG["instructions"], prompts.customer_name],
        **settings,
    )


def run(
    prompt: str | None,
    *,
    customer_id: int = 123,
    history: list[ModelMessage] | None = None,
    on: Agent[SupportDeps, Any] | None = None,
) -> AgentRunResult[Any]:
    async def go() -> AgentRunResult[Any]:
        async with make({"customer_id": customer_id}) as deps:
            return await (on or agent()).run(prompt, deps=deps, message_history=history)

    return asyncio.run(go())


def answer(prompt: str, **changes: Any) -> Answer:
    output: Answer = run(prompt, **changes).output
    jsonschema_rs.validate(OUTPUT_SCHEMA, output)
    return output


def tool_calls(messages: list[ModelMessage]) -> list[ToolCallPart]:
    parts = (part for message in messages for part in message.parts)
    return [part for part in parts if isinstance(part, ToolCallPart)]


def tools_called(messages: list[ModelMessage]) -> list[str]:
    return [call.tool_name for call in tool_calls(messages)]


def test_balance_comes_from_the_database_and_includes_pending_payments() -> None:
    assert answer("What is my balance?") == {
        "support_advice": "John, your balance is $123.45, pending payments included.",
        "block_card": False,
        "risk": 1,
    }


@pytest.mark.parametrize(
    ("customer_id", "prompt", "amount"),
    [
        (123, "What is my balance without pending payments?", "$143.45"),
        (124, "How much do I have?", "$9200.10"),
        (125, "And my balance?", "-$12.50"),
    ],
)
def test_each_customer_gets_their_own_balance(customer_id: int, prompt: str, amount: str) -> None:
    assert amount in answer(prompt, customer_id=customer_id)["support_advice"]


def test_name_with_quotes_reaches_the_answer() -> None:
    assert "Siobhan O'Neill" in answer("Good morning", customer_id=125)["support_advice"]


@pytest.mark.parametrize(
    "prompt", ["I just lost my card!", "My wallet was stolen", "I lost my card, is my balance ok?"]
)
def test_lost_card_is_blocked_without_a_tool_call(prompt: str) -> None:
    result = run(prompt)
    assert result.output["block_card"] is True
    assert result.output["risk"] >= 8
    assert "John" in result.output["support_advice"]
    assert tools_called(result.all_messages()) == ["final_result"]


def test_other_question_is_told_what_the_agent_can_do() -> None:
    output = answer("Can you recommend a restaurant?")
    assert "look up your balance" in output["support_advice"]
    assert output["block_card"] is False


def test_unknown_customer_is_refused_without_naming_others() -> None:
    with pytest.raises(
        CustomerNotFound, match=r"^no customer 999 in the bank's database"
    ) as refusal:
        run("What is my balance?", customer_id=999)
    assert refusal.value.customer_id == 999
    assert "123" not in str(refusal.value)


def test_streamed_answer_arrives_in_pieces_and_equals_the_whole_one() -> None:
    async def stream() -> list[Answer]:
        async with make({"customer_id": 123}) as deps:
            question = "What is my balance?"
            async with agent().run_stream(question, deps=deps) as result:
                return [partial async for partial in result.stream_output(debounce_by=None)]

    partials = asyncio.run(stream())
    advice = [partial.get("support_advice", "") for partial in partials]
    assert len(set(advice)) > 5
    assert all(later.startswith(earlier) for earlier, later in pairwise(advice))
    assert partials[-1] == answer("What is my balance?")


def test_text_is_streamed_in_pieces_when_the_agent_has_no_output_schema() -> None:
    async def stream() -> list[str]:
        async with make({"customer_id": 123}) as deps:
            async with agent(str).run_stream("What is my balance?", deps=deps) as result:
                return [text async for text in result.stream_text(delta=True, debounce_by=None)]

    pieces = asyncio.run(stream())
    assert len(pieces) > 5
    assert "".join(pieces) == "John, your balance is $123.45, pending payments included."


def test_native_output_is_answered_as_json() -> None:
    output = answer("I lost my card", on=agent(NativeOutput(OUTPUT)))
    assert output["block_card"] is True


def test_each_turn_of_a_conversation_looks_the_balance_up_once() -> None:
    first = run("What is my balance?")
    second = run("And without pending payments?", history=first.all_messages())
    assert "$143.45" in second.output["support_advice"]
    assert tools_called(second.new_messages()) == ["customer_balance", "final_result"]
    third = run("What did I ask before?", history=second.all_messages())
    assert "And without pending payments?" in third.output["support_advice"]


def test_run_resumed_after_its_tool_call_goes_on_to_the_same_answer() -> None:
    whole = run("What is my balance?")
    ends = {"call to make": 2, "result to use": 3}
    for end in ends.values():
        recorded = ModelMessagesTypeAdapter.validate_json(whole.all_messages_json())[:end]
        resumed = run(None, history=recorded)
        assert resumed.output == whole.output
        assert tools_called(resumed.all_messages()) == ["customer_balance", "final_result"]


def test_same_conversation_gives_the_same_calls() -> None:
    first, again = (
        [call.tool_call_id for call in tool_calls(run("What is my balance?").all_messages())]
        for _ in range(2)
    )
    assert first == again
    assert len(set(first)) == 2


def test_failed_lookup_is_admitted_and_not_repeated() -> None:
    async def customer_balance(include_pending: bool) -> str:
        raise ModelRetry("the ledger is closed")

    result = run("What is my balance?", on=agent(tools=[customer_balance]))
    assert "cannot look up your balance" in result.output["support_advice"]
    assert tools_called(result.all_messages()) == ["customer_balance", "final_result"]
    assert "the ledger is closed" in str(result.all_messages())


def test_balance_question_without_the_tool_is_still_answered() -> None:
    result = run("What is my balance?", on=agent(tools=[]))
    assert "cannot look up your balance" in result.output["support_advice"]


def test_answer_that_was_refused_is_given_again_without_a_second_lookup() -> None:
    refusing = agent(retries={"output": 1})
    refusals = iter([True, False])

    @refusing.output_validator
    def refuse_once(output: Answer) -> Answer:
        if next(refusals):
            raise ModelRetry("say it again")
        return output

    result = run("What is my balance?", on=refusing)
    assert tools_called(result.all_messages()) == [
        "customer_balance",
        "final_result",
        "final_result",
    ]


def test_model_says_that_it_is_offline() -> None:
    assert offline.model.model_id == "function:offline"


def test_every_python_target_of_the_agent_file_exists() -> None:
    targets = [
        CONFIG["model"].removeprefix("${AXON_MODEL:-python:").removesuffix("}"),
        CONFIG["deps"]["factory"],
        *CONFIG["dynamic_instructions"],
        *(tool["python"] for tool in CONFIG["tools"]),
    ]
    assert len(targets) == 4
    for target in targets:
        module, _, name = target.partition(":")
        assert hasattr(import_module(module), name), target


def test_deps_schema_accepts_what_the_factory_needs() -> None:
    schema = CONFIG["deps"]["schema"]
    assert jsonschema_rs.is_valid(schema, {"customer_id": 123})
    for bad in [{}, {"customer_id": "123"}, {"customer_id": 0}, {"customer_id": 1, "admin": True}]:
        assert not jsonschema_rs.is_valid(schema, bad), bad


def test_database_is_made_in_the_project_when_no_data_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AXON_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    run("hello")
    assert (tmp_path / ".axon" / "bank_support.sqlite3").is_file()


def test_database_that_exists_is_used_as_it_is() -> None:
    run("hello")
    with sqlite3.connect(database_path()) as connection:
        connection.execute("UPDATE customers SET name = 'Jack' WHERE id = 123")
        connection.execute("DELETE FROM customers WHERE id = 124")
    connection.close()
    assert "Jack" in answer("hello")["support_advice"]
    with pytest.raises(CustomerNotFound):
        run("hello", customer_id=124)


def test_tools_cannot_write_to_the_database() -> None:
    async def write() -> None:
        async with make({"customer_id": 123}) as deps:
            deps.database._connection.execute("DELETE FROM customers")

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        asyncio.run(write())


def test_database_that_many_processes_create_at_once_is_complete(data_dir: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from bank_support.database import BankDatabase, database_path\n"
        "sys.stdin.readline()\n"
        "db = asyncio.run(BankDatabase.open(database_path()))\n"
        "print(asyncio.run(db.balance_cents(123, include_pending=True)))\n"
        "db.close()\n"
    )
    command = [sys.executable, "-c", script]
    environment = {"AXON_DATA_DIR": str(data_dir), "PYTHONPATH": str(FOLDER.parent)}
    starting = [
        subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(8)
    ]
    for process in starting:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in starting]
    assert answers == ["12345\n"] * 8
    connection = sqlite3.connect(database_path())
    assert connection.execute("SELECT COUNT(*) FROM movements").fetchone() == (7,)
    connection.close()


def test_creation_that_fails_half_way_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.sql"
    script = (FOLDER / "data" / "customers.sql").read_text(encoding="utf-8")
    broken.write_text(script.replace("PRAGMA user_version", "NONSENSE"), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr("bank_support.database.CUSTOMERS_SQL", broken)
        with pytest.raises(sqlite3.OperationalError):
            run("hello")
    assert "$123.45" in answer("What is my balance?")["support_advice"]
