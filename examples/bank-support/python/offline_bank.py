"""A stand-in for a language model, so that the example answers without a key and without a network.

It calls the agent's tools as a model would and says what came of it. The same question always gets
the same answer.
"""

import re
from collections.abc import AsyncIterator, Sequence

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

_CARD = re.compile(r"\b(card|wallet|purse)\b", re.IGNORECASE)
_GONE = re.compile(r"\b(lost|lose|losing|missing|gone|stole|stolen|robbed)\b", re.IGNORECASE)
_STOLEN = re.compile(r"\b(stole|stolen|robbed)\b", re.IGNORECASE)
_BALANCE = re.compile(r"\b(balance|how much)\b", re.IGNORECASE)
_SETTLED_ONLY = re.compile(r"\b(without|not|no|except)\b.*\bpending\b", re.IGNORECASE)
_HELP = (
    "I can look up your balance and block a lost or stolen card."
    " I am an offline stand-in: anything else needs a real model."
)


def _respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[_reply(messages, info)])


async def _stream(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    call = _reply(messages, info)
    args = call.args_as_json_str()
    yield {0: DeltaToolCall(name=call.tool_name, json_args=args, tool_call_id=call.tool_call_id)}


def _reply(messages: Sequence[ModelMessage], info: AgentInfo) -> ToolCallPart:
    question, returned = _last_turn(messages)
    if _CARD.search(question) and _GONE.search(question):
        return _card(question, returned, info)
    if _BALANCE.search(question):
        return _balance(question, returned, info)
    return _answer(info, _HELP, block_card=False, risk=0)


def _card(question: str, returned: ToolReturnPart | None, info: AgentInfo) -> ToolCallPart:
    risk = 9 if _STOLEN.search(question) else 8
    if returned is None:
        return _call("block_card", risk=risk)
    if returned.outcome == "denied":
        text = "I could not block your card: please call us, a clerk has to see to it."
        return _answer(info, text, block_card=False, risk=risk)
    text = "I am sorry to hear that. Your card is blocked, and a new one is on its way to you."
    return _answer(info, text, block_card=True, risk=risk)


def _balance(question: str, returned: ToolReturnPart | None, info: AgentInfo) -> ToolCallPart:
    with_pending = _SETTLED_ONLY.search(question) is None
    if returned is None:
        return _call("customer_balance", include_pending=with_pending)
    pending = "included" if with_pending else "not included"
    text = f"Your balance is {returned.model_response_str()}, pending payments {pending}."
    return _answer(info, text, block_card=False, risk=1)


def _last_turn(messages: Sequence[ModelMessage]) -> tuple[str, ToolReturnPart | None]:
    """Returns what the user asked last, and what the tool has said since."""
    question, returned = "", None
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else ():
            if isinstance(part, UserPromptPart) and isinstance(part.content, str):
                question, returned = part.content, None
            elif isinstance(part, ToolReturnPart):
                returned = part
    return question, returned


def _call(name: str, **args: object) -> ToolCallPart:
    return ToolCallPart(name, args, tool_call_id=f"offline_{name}")


def _answer(info: AgentInfo, advice: str, *, block_card: bool, risk: int) -> ToolCallPart:
    name = info.output_tools[0].name
    return _call(name, support_advice=advice, block_card=block_card, risk=risk)


model = FunctionModel(_respond, stream_function=_stream, model_name="offline")
