"""The life of the process: launch, ready, serve, drain, exit."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from contextlib import suppress

from axon_runner import failed, lifeline, preflight
from axon_runner.control import Control

CONTROL_FD, LISTEN_FD, LIFELINE_FD = 3, 4, 5


def main() -> None:
    """Runs the runner; ends the process instead of returning."""
    lifeline.arm(LIFELINE_FD)
    for fd in (CONTROL_FD, LISTEN_FD, LIFELINE_FD):
        os.set_inheritable(fd, False)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    os.environ["PYDANTIC_AI_NO_BANNER"] = "1"
    if sys.stdout is not None:  # it is when the descriptor is closed
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    gc.disable()
    control = Control(CONTROL_FD)
    line = control.read_launch()
    code = 1
    try:
        pydantic_ai = preflight.check()
        code = _serve(control, line, pydantic_ai)
    except BaseException as error:  # noqa: BLE001 - the boundary: whatever it is, Rust is told
        control.send_now({"type": "failed", "error": failed.describe(error, line)})
    control.flush(1.0)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # user code may have closed or replaced it
            stream.flush()
    os._exit(code)


def _serve(control: Control, line: bytes, pydantic_ai: str) -> int:
    """Goes from the cheap to the expensive, so that a bad record is refused at once."""
    from axon_runner import launch, registry

    record = launch.parse(line)
    os.environ.update(record.env)
    registry.extend_path(record)
    from axon_runner import server

    return server.run(control, LISTEN_FD, record, pydantic_ai)
