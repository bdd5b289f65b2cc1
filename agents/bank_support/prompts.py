"""Instructions that depend on who asks."""

from pydantic_ai import RunContext

from bank_support.deps import SupportDeps


def customer_name(ctx: RunContext[SupportDeps]) -> str:
    """Tells the model whom it talks to."""
    return f"The customer's name is {ctx.deps.customer_name!r}."
