"""Serves pydantic-ai agents to the Axon runtime over HTTP and SSE on an inherited Unix socket.

Start reading at `process` (launch, ready, shutdown), then `app` (the routes), `attempt` and
`drive` (one attempt of one run). The runner keeps no policy and no state between runs: every
decision is taken in Rust, and everything a run needs comes with its request.

`process` and what it imports at its top parse on Python 3.8, so that an interpreter which is too
old is reported as a configuration error and not as a syntax error.
"""

__version__ = "0.1.0"


def main() -> None:
    """Runs the runner until it is drained, killed or refused; never returns."""
    from axon_runner import process

    process.main()
