"""What the model may do."""

from datetime import date


def today() -> str:
    """Returns today's date and weekday."""
    return date.today().strftime("%A, %Y-%m-%d")
