"""A stand-in for a language model, so that the agent answers without a key and without a network.

It reads the conversation as a model would, calls the agent's tool and picks one of a few answers.
The same conversation always gives the same answer.
"""

import re
from ast import literal_eval
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pydantic_ai.messages import ModelMessage, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo
from stand_in import Reply, answer, call, offers, prompt_text, stand_in

BALANCE_TOOL = "customer_balance"

_CARD = re.compile(r"\b(card|wallet|purse)\b", re.IGNORECASE)
_LOST = re.compile(r"\b(lost|lose|losing|missing)\b", re.IGNORECASE)
_STOLEN = re.compile(r"\b(stole|stolen|theft|robbed)\b", re.IGNORECASE)
_BALANCE = re.compile(
    r"\b(balance|pending|how much (money|is left|is (in|on) my|do i have))\b", re.IGNORECASE
)
_SETTLED_ONLY = re.compile(r"\b(without|excluding|except|not|no)\b.*\bpending\b", re.IGNORECASE)
_RECALL = re.compile(r"\bwhat (did|was) (i|my)\b.*\b(ask|say|question)\b", re.IGNORECASE)
_NAME = re.compile(r"""The customer's name is ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\.""")


@dataclass(frozen=True)
class Advice:
    """The agent's output, as `output.schema.json` says."""

    support_advice: str
    block_card: bool
    risk: int


@dataclass
class Turn:
    """What happened since the user last spoke."""

    prompt: str = ""
    previous_prompt: str = ""
    asked_for_balance: bool = False
    balance: str | None = None

    @property
    def include_pending(self) -> bool:
        return _SETTLED_ONLY.search(self.prompt) is None


def _reply(messages: Sequence[ModelMessage], info: AgentInfo) -> Reply:
    turn = _last_turn(messages)
    wants_balance = _BALANCE.search(turn.prompt) and not _card_is_gone(turn.prompt)
    if wants_balance and offers(info, BALANCE_TOOL) and not turn.asked_for_balance:
        return call(BALANCE_TOOL, {"include_pending": turn.include_pending}, messages)
    advice = _advice(turn, customer_name(info.instructions))
    return answer(asdict(advice), advice.support_advice, messages, info)


def _advice(turn: Turn, name: str) -> Advice:
    if _card_is_gone(turn.prompt):
        risk = 9 if _STOLEN.search(turn.prompt) else 8
        return Advice(
            f"I am sorry to hear that, {name}. We are blocking your card now;"
            " a new one is on its way to you.",
            block_card=True,
            risk=risk,
        )
    if turn.balance is not None:
        pending = "included" if turn.include_pending else "not included"
        text = f"{name}, your balance is {turn.balance}, pending payments {pending}."
        return Advice(text, block_card=False, risk=1)
    if _BALANCE.search(turn.prompt):
        text = f"{name}, I cannot look up your balance right now. Please ask again in a moment."
        return Advice(text, block_card=False, risk=1)
    if _RECALL.search(turn.prompt) and turn.previous_prompt:
        text = f"{name}, before this you said: {turn.previous_prompt}"
        return Advice(text, block_card=False, risk=0)
    text = (
        f"Hello {name}. I can look up your balance, with or without pending payments, and block"
        " a lost or stolen card. I am an offline stand-in: anything else needs a real model."
    )
    return Advice(text, block_card=False, risk=0)


def _card_is_gone(prompt: str) -> bool:
    is_gone = _LOST.search(prompt) or _STOLEN.search(prompt)
    return bool(is_gone and _CARD.search(prompt))


def _last_turn(messages: Sequence[ModelMessage]) -> Turn:
    turn = Turn()
    for message in messages:
        for part in message.parts:
            match part:
                case UserPromptPart():
                    turn = Turn(prompt_text(part), turn.prompt)
                case ToolCallPart(tool_name=name) if name == BALANCE_TOOL:
                    turn.asked_for_balance = True
                case ToolReturnPart(tool_name=name, outcome="success") if name == BALANCE_TOOL:
                    turn.balance = part.model_response_str()
    return turn


def customer_name(instructions: str | None) -> str:
    """Returns the name that the instructions tell, as `prompts.customer_name` writes it."""
    found = _NAME.search(instructions or "")
    return str(literal_eval(found[1])) if found else "dear customer"


model = stand_in(_reply)
