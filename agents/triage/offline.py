"""A stand-in for a language model, so that the agent answers without a key or a network."""

from collections.abc import Sequence

from fraud.signs import is_fraud
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo
from stand_in import Reply, answer, last_prompt, stand_in


def _reply(messages: Sequence[ModelMessage], info: AgentInfo) -> Reply:
    if is_fraud(last_prompt(messages)):
        to, reason = "fraud", "The customer tells of what looks like fraud."
    else:
        to, reason = "bank_support", "Nothing in the message points to fraud."
    return answer({"to": to, "reason": reason}, to, messages, info)


model = stand_in(_reply)
