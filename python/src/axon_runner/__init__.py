"""Serves pydantic-ai agents to the Axon runtime over HTTP and SSE on an inherited Unix socket.

Start reading at `process` (launch, ready, shutdown), then `app` (the routes), `attempt` and
`drive` (one attempt of one run). The runner keeps no policy and no state between runs: every
decision is taken in Rust, and everything a run needs comes with its request.

Tools and what belongs to them may import what `__all__` names from here; nothing else is meant for
them.

`process` and what it imports at its top, this module too, parse on Python 3.8, so that an
interpreter which is too old is reported as a configuration error and not as a syntax error.
"""

from axon_runner.call import CurrentCall, current_call, run_state
from axon_runner.rust_tools import RustToolRefused, call_rust, call_rust_and_wait
from axon_runner.verdict import Done, NotDone

__all__ = [
    "CurrentCall",
    "Done",
    "NotDone",
    "RustToolRefused",
    "call_rust",
    "call_rust_and_wait",
    "current_call",
    "run_state",
]
__version__ = "0.1.0"


def main() -> None:
    """Runs the runner, or with the argument `launcher` the parent of runners; never returns."""
    import sys

    if sys.argv[1:2] == ["launcher"]:
        from axon_runner import launcher

        launcher.main()
    from axon_runner import process

    process.main()
