"""The desk of the bank, as pydantic-ai runs it: triage, fraud, and what support makes of theirs."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agent_folder import AgentFolder, tool_calls, tool_return, tools_called
from bank_support.database import BankDatabase, database_path
from bank_support.deps import make
from fraud.signs import card_was_used, everything_is_gone, is_fraud
from fraud.tools import was_blocked
from pydantic_ai import (
    Agent,
    AgentRunResult,
    DeferredToolRequests,
    DeferredToolResults,
    ModelMessage,
    ModelRetry,
    ToolDenied,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ToolReturnPart

from axon_runner import Done, NotDone
from axon_runner.call import CurrentCall, under_way

FRAUD, SUPPORT, TRIAGE = (AgentFolder(name) for name in ("fraud", "bank_support", "triage"))
KEY = "run-1:2:call"

LISBON = "There is a payment in Lisbon that I did not make"
USED = "Somebody used my card!"
EMPTIED = "Somebody used my card and emptied my account, all my money is gone!"
BALANCE = "What is my balance?"

FRAUD_MESSAGES = [
    LISBON, USED, EMPTIED,
    "someone else has used my card at a hotel",
    "There is an unauthorised charge on my account",
    "I see an unknown payment of $489",
    "I don't recognise this transaction",
    "I have never been to Lisbon",
    "I got a phishing mail and typed in my PIN",
    "they cleaned out my account",
    "My card has been cloned",
    "I did not authorize that",
    "somebody stole my money",
    "I got a suspicious text from the bank",
    "every penny of our savings has been taken, I was scammed",
]  # fmt: skip
OTHER_MESSAGES = [
    BALANCE,
    "I lost my card",
    "My wallet was stolen",
    "What is my balance without pending payments?",
    "When does my new card come?",
    "Can you recommend a restaurant in Lisbon?",
    "When have they sent my new card?",
    "hello",
    "",
]

Answer = dict[str, Any]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AXON_DATA_DIR", str(tmp_path / "data"))
    call = CurrentCall(run_id="run-1", step=2, tool_call_id="call", attempt=1)
    with under_way(call):
        yield


class HandOff:
    """The tool that the runtime gives to an agent with `[handoff]`; a person answers `said`."""

    def __init__(self, said: str | Exception = "Call the police, we freeze the account.") -> None:
        self.said = said
        self.asked: list[tuple[str, str]] = []

    async def hand_off(self, to: str, reason: str) -> str:
        """Hands the conversation off."""
        self.asked.append((to, reason))
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def fraud(desk: HandOff | None = None, **changes: Any) -> Agent[Any, Any]:
    made = FRAUD.agent(**changes)
    if desk is not None:
        made.tool_plain(desk.hand_off)
    return made


def run(
    agent: Agent[Any, Any], prompt: str | None, *, customer_id: int = 123, **settings: Any
) -> AgentRunResult[Any]:
    async def go() -> AgentRunResult[Any]:
        async with make({"customer_id": customer_id}) as deps:
            return await agent.run(prompt, deps=deps, **settings)

    return asyncio.run(go())


def decided(
    agent: Agent[Any, Any], prompt: str, decision: bool | ToolDenied, **settings: Any
) -> AgentRunResult[Any]:
    """Runs the agent until it waits for a person, decides, and runs it to its end."""
    paused = run(agent, prompt, **settings)
    assert isinstance(paused.output, DeferredToolRequests)
    [waiting] = paused.output.approvals
    assert waiting.tool_name == "block_card"
    approvals: dict[str, Any] = {waiting.tool_call_id: decision}
    history = ModelMessagesTypeAdapter.validate_json(paused.all_messages_json())
    results = DeferredToolResults(approvals=approvals)
    return run(agent, None, message_history=history, deferred_tool_results=results, **settings)


def is_blocked(key: str = KEY) -> bool:
    async def ask() -> bool:
        with closing(await BankDatabase.open(database_path())) as bank:
            return await bank.was_blocked_by(key)

    return asyncio.run(ask())


@pytest.mark.parametrize("message", FRAUD_MESSAGES)
def test_triage_sends_fraud_to_the_fraud_desk(message: str) -> None:
    output = TRIAGE.valid(asyncio.run(TRIAGE.agent().run(message)).output)
    assert output == {"to": "fraud", "reason": "The customer tells of what looks like fraud."}


@pytest.mark.parametrize("message", OTHER_MESSAGES)
def test_triage_sends_everything_else_to_support(message: str) -> None:
    output = TRIAGE.valid(asyncio.run(TRIAGE.agent().run(message)).output)
    assert output["to"] == "bank_support"


def test_signs_of_fraud_are_told_apart() -> None:
    assert card_was_used(USED)
    assert not card_was_used(LISBON)
    assert everything_is_gone(EMPTIED)
    assert everything_is_gone("they drained my savings account")
    assert not everything_is_gone(USED)
    assert not is_fraud("I used my card in Lisbon")


def test_fraud_and_support_answer_in_the_same_form() -> None:
    assert FRAUD.output_schema == SUPPORT.output_schema
    assert FRAUD.config["deps"] == SUPPORT.config["deps"]
    assert FRAUD.config["handoff"] == {"to": ["bank_support", "human"]}


def test_recent_payments_are_the_customers_own() -> None:
    result = run(fraud(), LISBON)
    payments = tool_return(result.all_messages(), "recent_payments")
    assert payments[0] == {
        "merchant": "Hotel Miradouro",
        "city": "Lisbon",
        "amount": "$489.00",
        "date": "2026-09-17",
    }
    assert len(payments) == 3


@pytest.mark.parametrize(
    ("message", "risk"),
    [(LISBON, 8), ("What is this charge of Hotel Miradouro?", 8), (USED, 9)],
)
def test_a_card_is_blocked_when_a_person_approves(message: str, risk: int) -> None:
    desk = HandOff()
    result = decided(fraud(desk), message, True)
    output = FRAUD.valid(result.output)
    assert (output["block_card"], output["risk"]) == (True, risk)
    assert output["support_advice"].startswith("John, ")
    assert "Your card is blocked for good" in output["support_advice"]
    assert tools_called(result.all_messages()) == ["recent_payments", "block_card", "final_result"]
    assert desk.asked == []
    assert is_blocked()


@pytest.mark.parametrize("message", [LISBON, USED])
def test_a_card_is_not_blocked_when_a_person_denies(message: str) -> None:
    result = decided(fraud(), message, ToolDenied("the customer is travelling"))
    output = FRAUD.valid(result.output)
    assert output["block_card"] is False
    assert output["risk"] >= 8
    assert "not blocked" in output["support_advice"]
    assert "the customer is travelling" in output["support_advice"]
    assert tools_called(result.all_messages()) == ["recent_payments", "block_card", "final_result"]
    assert not is_blocked()


def test_the_payment_that_the_customer_names_is_told() -> None:
    advice = decided(fraud(), LISBON, True).output["support_advice"]
    assert "$489.00 at Hotel Miradouro, Lisbon, on 2026-09-17" in advice
    assert "Lisbon" not in decided(fraud(), USED, False).output["support_advice"]


def test_a_card_that_was_blocked_before_is_not_said_to_be_blocked_now() -> None:
    decided(fraud(), USED, True)
    call = CurrentCall(run_id="run-2", step=2, tool_call_id="call", attempt=1)
    with under_way(call):
        output = FRAUD.valid(decided(fraud(), USED, True).output)
    assert output["block_card"] is False
    assert "was blocked already" in output["support_advice"]


def test_after_a_crash_the_tool_knows_whether_it_blocked_the_card() -> None:
    async def ask(key: str) -> Done | NotDone:
        async with make({"customer_id": 123}) as deps:
            return await was_blocked(key, {}, deps)

    assert asyncio.run(ask(KEY)) == NotDone()
    decided(fraud(), USED, True)
    assert asyncio.run(ask(KEY)) == Done(True)
    assert asyncio.run(ask("other")) == NotDone()


def test_a_payment_that_is_not_there_blocks_nothing() -> None:
    result = run(fraud(HandOff()), "There is a payment in Paris that I did not make")
    output = FRAUD.valid(result.output)
    assert output["block_card"] is False
    assert "Tell us which payment is not yours" in output["support_advice"]
    assert tools_called(result.all_messages()) == ["recent_payments", "final_result"]


def test_a_very_large_loss_goes_to_a_person_first() -> None:
    desk = HandOff()
    result = decided(fraud(desk), EMPTIED, True)
    output = FRAUD.valid(result.output)
    assert (output["risk"], output["block_card"]) == (10, True)
    assert "My colleague says: Call the police, we freeze the account." in output["support_advice"]
    assert tools_called(result.all_messages()) == [
        "hand_off",
        "recent_payments",
        "block_card",
        "final_result",
    ]
    [(to, reason)] = desk.asked
    assert to == "human"
    assert "John" in reason


def test_a_person_who_cannot_be_reached_is_not_quoted() -> None:
    desk = HandOff(ModelRetry("nobody is there"))
    output = FRAUD.valid(run(fraud(desk), "They drained my account").output)
    assert output["risk"] == 10
    assert "I could not reach a colleague" in output["support_advice"]
    assert len(desk.asked) == 1


@pytest.mark.parametrize("message", OTHER_MESSAGES)
def test_what_is_no_fraud_goes_to_support_and_nothing_else_is_done(message: str) -> None:
    desk = HandOff("(support goes on)")
    result = run(fraud(desk), message)
    assert [to for to, _ in desk.asked] == ["bank_support"]
    assert tools_called(result.all_messages()) == ["hand_off", "final_result"]
    assert FRAUD.valid(result.output)["risk"] == 0


@pytest.mark.parametrize("message", [LISBON, USED, EMPTIED, BALANCE])
def test_a_tool_that_is_not_offered_is_done_without(message: str) -> None:
    result = run(fraud(tools=[]), message)
    output = FRAUD.valid(result.output)
    assert output["block_card"] is False
    assert tools_called(result.all_messages()) == ["final_result"]
    assert "is blocked" not in output["support_advice"]


def test_payments_that_cannot_be_read_are_asked_for_once() -> None:
    async def recent_payments() -> str:
        raise ModelRetry("the ledger is closed")

    result = run(fraud(tools=[recent_payments]), USED)
    assert "cannot look at your payments" in result.output["support_advice"]
    assert tools_called(result.all_messages()) == ["recent_payments", "final_result"]


def test_each_turn_of_a_conversation_begins_anew() -> None:
    first = decided(fraud(HandOff()), LISBON, False)
    second = run(fraud(HandOff()), BALANCE, message_history=first.all_messages())
    assert tools_called(second.new_messages()) == ["hand_off", "final_result"]
    third = run(fraud(HandOff()), LISBON, message_history=second.all_messages())
    assert isinstance(third.output, DeferredToolRequests)


def test_fraud_goes_on_with_a_conversation_that_another_agent_handed_off() -> None:
    # The other agent's hand-off is no hand-off of this one.
    history = handed_off_by_fraud(EMPTIED, to="fraud")
    desk = HandOff()
    paused = run(fraud(desk), None, message_history=history)
    assert isinstance(paused.output, DeferredToolRequests)
    assert [to for to, _ in desk.asked] == ["human"]


@pytest.mark.parametrize(
    ("message", "says", "called"),
    [
        (BALANCE, "$123.45", ["customer_balance", "final_result"]),
        ("I lost my card", "We are blocking your card now", ["final_result"]),
        ("hello", "I can look up your balance", ["final_result"]),
    ],
)
def test_support_goes_on_with_what_fraud_handed_off(
    message: str, says: str, called: list[str]
) -> None:
    history = handed_off_by_fraud(message, to="bank_support")
    result = run(SUPPORT.agent(), None, message_history=history)
    assert says in SUPPORT.valid(result.output)["support_advice"]
    assert tools_called(result.new_messages()) == called
    ids = [call.tool_call_id for call in tool_calls(result.all_messages())]
    assert len(set(ids)) == len(ids)


def test_support_answers_a_later_message_of_a_conversation_that_fraud_began() -> None:
    history = decided(fraud(HandOff()), LISBON, True).all_messages()
    result = run(SUPPORT.agent(), BALANCE, message_history=history)
    assert "$123.45" in SUPPORT.valid(result.output)["support_advice"]
    recall = run(SUPPORT.agent(), "What did I ask before?", message_history=history)
    assert LISBON in recall.output["support_advice"]


def handed_off_by_fraud(message: str, *, to: str) -> list[ModelMessage]:
    """Returns the history of a run that ends with a hand-off and what the runtime said to it."""
    history = run(fraud(HandOff("x"), end_strategy="early"), message).all_messages()
    asked, called = history[0], history[1]
    [call] = tool_calls([called])
    assert call.tool_name == "hand_off"
    call.args = json.dumps({"to": to, "reason": "not ours"})
    told = ToolReturnPart("hand_off", f"{to} goes on", tool_call_id=call.tool_call_id)
    return [asked, called, ModelRequest([told])]


def test_streamed_answer_arrives_in_pieces_and_equals_the_whole_one() -> None:
    question = "There is a payment in Paris that I did not make"

    async def stream() -> list[Answer]:
        async with make({"customer_id": 123}) as deps:
            async with fraud().run_stream(question, deps=deps) as result:
                return [partial async for partial in result.stream_output(debounce_by=None)]

    partials = asyncio.run(stream())
    advice = [partial.get("support_advice", "") for partial in partials]
    assert len(set(advice)) > 5
    assert all(later.startswith(earlier) for earlier, later in pairwise(advice))
    assert partials[-1] == run(fraud(), question).output
