"""A stand-in for a language model, so that the agent answers without a key and without a network.

It reads the conversation as a model would, calls the agent's tool and picks one of a few answers.
The same conversation always gives the same answer.
"""

import asyncio
import json
import re
from ast import literal_eval
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

BALANCE_TOOL = "customer_balance"
SECONDS_PER_WORD = 0.01
"""How fast the model talks when it streams, so that there is a stream to see."""

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


async def _respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    part = _reply(messages, info)
    return ModelResponse(parts=[TextPart(part) if isinstance(part, str) else part])


async def _stream(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    part = _reply(messages, info)
    if isinstance(part, str):
        async for chunk in _words(part):
            yield chunk
        return
    yield {0: DeltaToolCall(name=part.tool_name, tool_call_id=part.tool_call_id)}
    async for chunk in _words(part.args_as_json_str()):
        yield {0: DeltaToolCall(json_args=chunk)}


def _reply(messages: Sequence[ModelMessage], info: AgentInfo) -> ToolCallPart | str:
    """Returns the one tool call, or the text, that the model says next."""
    turn = _last_turn(messages)
    wants_balance = _BALANCE.search(turn.prompt) and not _card_is_gone(turn.prompt)
    has_tool = any(tool.name == BALANCE_TOOL for tool in info.function_tools)
    if wants_balance and has_tool and not turn.asked_for_balance:
        return _call(BALANCE_TOOL, {"include_pending": turn.include_pending}, messages)
    advice = _advice(turn, _customer_name(info.instructions))
    if info.output_tools:
        return _call(info.output_tools[0].name, asdict(advice), messages)
    if info.model_request_parameters.output_object is not None:
        return json.dumps(asdict(advice), ensure_ascii=False)
    return advice.support_advice


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
                    turn = Turn(_text(part), turn.prompt)
                case ToolCallPart(tool_name=name) if name == BALANCE_TOOL:
                    turn.asked_for_balance = True
                case ToolReturnPart(tool_name=name, outcome="success") if name == BALANCE_TOOL:
                    turn.balance = part.model_response_str()
    return turn


def _text(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    return " ".join(item for item in part.content if isinstance(item, str))


def _customer_name(instructions: str | None) -> str:
    found = _NAME.search(instructions or "")
    return str(literal_eval(found[1])) if found else "dear customer"


def _call(name: str, args: dict[str, object], messages: Sequence[ModelMessage]) -> ToolCallPart:
    """Returns a call whose id is the same whenever the same conversation is replayed."""
    args_json = json.dumps(args, ensure_ascii=False)
    return ToolCallPart(name, args_json, tool_call_id=f"offline_{len(messages)}_{name}")


async def _words(text: str) -> AsyncIterator[str]:
    for word in re.findall(r"\S*\s*", text):
        if word:
            yield word
            await asyncio.sleep(SECONDS_PER_WORD)


model = FunctionModel(_respond, stream_function=_stream, model_name="offline")
