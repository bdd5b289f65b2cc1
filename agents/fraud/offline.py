"""A stand-in for a language model, so that the agent answers without a key and without a network.

It reads the conversation as a model would: it looks at the payments, blocks the card or hands the
conversation off, and tells what came of it. A tool that it is not offered it does without.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from bank_support.offline import Advice, customer_name
from pydantic import TypeAdapter, ValidationError
from pydantic_ai.messages import ModelMessage, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo
from stand_in import Reply, answer, call, offers, prompt_text, stand_in

from fraud import signs
from fraud.tools import Payment

PAYMENTS_TOOL = "recent_payments"
BLOCK_TOOL = "block_card"
HAND_OFF_TOOL = "hand_off"
TO_SUPPORT, TO_HUMAN = f"{HAND_OFF_TOOL} bank_support", f"{HAND_OFF_TOOL} human"

_PAYMENTS = TypeAdapter(list[Payment])
_ABOUT_A_PAYMENT = re.compile(
    r"\b(payments?|paid|charged?|charges|transactions?|purchases?|bought|booked|debited)\b",
    re.IGNORECASE,
)
_BALANCE = re.compile(r"\b(balance|pending)\b", re.IGNORECASE)


@dataclass
class Turn:
    """What happened since the user last spoke, by the tool and, of a hand-off, to whom."""

    prompt: str = ""
    called: dict[str, str] = field(default_factory=dict)
    """What each call was, by its id."""
    returned: dict[str, ToolReturnPart] = field(default_factory=dict)

    def result(self, what: str) -> str | None:
        """Returns what the call gave back, if it did what it was made for."""
        part = self.returned.get(what)
        return part.model_response_str() if part and part.outcome == "success" else None

    @property
    def disputed(self) -> Payment | None:
        """The first of the payments whose shop or city the customer names."""
        try:
            payments = _PAYMENTS.validate_json(self.result(PAYMENTS_TOOL) or "[]")
        except ValidationError:
            return None
        return next((payment for payment in payments if _names(self.prompt, payment)), None)

    @property
    def wants_block(self) -> bool:
        return self.disputed is not None or signs.card_was_used(self.prompt)


def _reply(messages: Sequence[ModelMessage], info: AgentInfo) -> Reply:
    turn = _last_turn(messages)
    name = customer_name(info.instructions)

    def may(what: str) -> bool:
        return offers(info, what.split()[0]) and what not in turn.called.values()

    if not _is_for_this_desk(turn.prompt):
        if may(TO_SUPPORT):
            reason = "The customer's question is no matter of fraud."
            return call(HAND_OFF_TOOL, {"to": "bank_support", "reason": reason}, messages)
        advice = _not_ours(name)
    elif signs.everything_is_gone(turn.prompt) and may(TO_HUMAN):
        reason = f"All or very much of the money of {name} is gone: what shall we do first?"
        return call(HAND_OFF_TOOL, {"to": "human", "reason": reason}, messages)
    elif may(PAYMENTS_TOOL):
        return call(PAYMENTS_TOOL, {}, messages)
    elif turn.wants_block and may(BLOCK_TOOL):
        return call(BLOCK_TOOL, {}, messages)
    else:
        advice = _advice(turn, name)
    return answer(asdict(advice), advice.support_advice, messages, info)


def _is_for_this_desk(prompt: str) -> bool:
    about_a_payment = _ABOUT_A_PAYMENT.search(prompt) and not _BALANCE.search(prompt)
    return bool(signs.is_fraud(prompt) or about_a_payment)


def _not_ours(name: str) -> Advice:
    text = f"{name}, this is the fraud desk. Please ask our support, which can help you with that."
    return Advice(text, block_card=False, risk=0)


def _advice(turn: Turn, name: str) -> Advice:
    text = [f"{name}, thank you for telling us."]
    if (payment := turn.disputed) is not None:
        text.append(
            f"We see {payment['amount']} at {payment['merchant']}, {payment['city']},"
            f" on {payment['date']}."
        )
    elif turn.result(PAYMENTS_TOOL) is None:
        text.append("We cannot look at your payments right now.")
    text.append(_what_became_of_the_card(turn))
    everything_is_gone = signs.everything_is_gone(turn.prompt)
    if everything_is_gone:
        said = turn.result(TO_HUMAN)
        text.append(f"My colleague says: {said}" if said else "I could not reach a colleague.")
    return Advice(
        " ".join(text),
        block_card=turn.result(BLOCK_TOOL) == "true",
        risk=10 if everything_is_gone else _risk(turn),
    )


def _what_became_of_the_card(turn: Turn) -> str:
    match turn.result(BLOCK_TOOL), turn.returned.get(BLOCK_TOOL):
        case "true", _:
            return "Your card is blocked for good, and a new one is on its way to you."
        case str(), _:
            return "Your card was blocked already, so nobody can pay with it."
        case None, ToolReturnPart(outcome="denied") as denied:
            return f"Your card is not blocked, because that was denied: {denied.content}"
        case _:
            pass
    if turn.wants_block:
        return "I could not block your card. Please call us at once."
    return "Your card is not blocked. Tell us which payment is not yours, and where it was made."


def _risk(turn: Turn) -> int:
    if signs.card_was_used(turn.prompt):
        return 9
    return 8 if turn.disputed is not None else 5


def _names(prompt: str, payment: Payment) -> bool:
    places = (payment["merchant"], payment["city"])
    return any(re.search(rf"\b{re.escape(place)}\b", prompt, re.IGNORECASE) for place in places)


def _last_turn(messages: Sequence[ModelMessage]) -> Turn:
    turn = Turn()
    for message in messages:
        for part in message.parts:
            match part:
                case UserPromptPart():
                    turn = Turn(prompt_text(part))
                case ToolCallPart():
                    turn.called[part.tool_call_id] = _what(part)
                case ToolReturnPart():
                    turn.returned[turn.called.get(part.tool_call_id, part.tool_name)] = part
    return turn


def _what(part: ToolCallPart) -> str:
    if part.tool_name != HAND_OFF_TOOL:
        return part.tool_name
    return f"{HAND_OFF_TOOL} {part.args_as_dict().get('to')}"


model = stand_in(_reply)
