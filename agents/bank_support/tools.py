"""What the model may do."""

from pydantic_ai import RunContext

from bank_support.deps import SupportDeps
from bank_support.money import dollars


async def customer_balance(ctx: RunContext[SupportDeps], include_pending: bool = True) -> str:
    """Returns the customer's current account balance.

    Args:
        include_pending: Whether payments that are not settled yet count.
    """
    return dollars(
        await ctx.deps.database.balance_cents(ctx.deps.customer_id, include_pending=include_pending)
    )
