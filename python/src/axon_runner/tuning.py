"""Tells what this process runs on, because an environment of the user's own may lack some of it."""

from __future__ import annotations

from axon_runner import event_loop, http_client, patches


def found() -> dict[str, str]:
    """Returns the event loop, the transport of model requests, and what has become of patches.

    A patch is missing for as long as its library has not been imported.
    """
    return {
        "event_loop": event_loop.KIND,
        "transport": http_client.KIND,
        **{f"patch {name}": state for name, state in patches.found().items()},
    }
