"""Prints and logs while it is imported."""

import logging
import warnings

print("hello from the import")
logging.getLogger("at.import").warning("careful, %s", "world")
warnings.warn("an old habit", stacklevel=1)


def tool() -> str:
    """Does nothing."""
    return ""
