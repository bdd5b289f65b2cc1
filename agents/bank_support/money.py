"""Amounts as people read them."""


def dollars(cents: int) -> str:
    """Returns whole cents as text, such as -$12.50."""
    sign = "-" if cents < 0 else ""
    return f"{sign}${abs(cents) // 100}.{abs(cents) % 100:02d}"
