"""What the model may do."""

from typing import Any

from bank_support.deps import SupportDeps
from bank_support.money import dollars
from pydantic_ai import RunContext
from typing_extensions import TypedDict

from axon_runner import Done, NotDone, current_call

RECENT = 10


class Payment(TypedDict):
    """One payment with the customer's card."""

    merchant: str
    city: str
    amount: str
    date: str


async def recent_payments(ctx: RunContext[SupportDeps]) -> list[Payment]:
    """Lists the last payments with the customer's card, the newest first."""
    payments = await ctx.deps.database.recent_payments(ctx.deps.customer_id, RECENT)
    return [
        Payment(
            merchant=payment.merchant,
            city=payment.city,
            amount=dollars(payment.amount_cents),
            date=payment.paid_on,
        )
        for payment in payments
    ]


async def block_card(ctx: RunContext[SupportDeps]) -> bool:
    """Blocks the customer's card, for good. Returns false if it was blocked already."""
    return await ctx.deps.database.block_card(
        ctx.deps.customer_id, key=current_call().idempotency_key
    )


async def was_blocked(key: str, args: dict[str, Any], deps: SupportDeps) -> Done | NotDone:
    """Says, after a crash, whether the call of this key has blocked the card."""
    return Done(True) if await deps.database.was_blocked_by(key) else NotDone()
