"""Changes of libraries that make a run cheaper and change nothing else.

Each is in a file of its own. It is used only with versions it was tried with and only after it has
agreed with the library on samples; else the library stays as it is, and the log says so.
"""

from __future__ import annotations

import logging

from axon_runner.patches.patch import ON, Patch
from axon_runner.patches.plain_request import PLAIN_REQUEST
from axon_runner.patches.stream_locks import STREAM_LOCKS
from axon_runner.patches.tool_schemas import TOOL_SCHEMAS

_log = logging.getLogger(__name__)
_ALL: tuple[Patch, ...] = (PLAIN_REQUEST, STREAM_LOCKS, TOOL_SCHEMAS)
_found: dict[str, str] = {}


def apply() -> None:
    """Makes the changes of libraries that were imported since the last time."""
    if len(_found) == len(_ALL):
        return
    for patch in _ALL:
        if patch.name in _found or not patch.due:
            continue
        _found[patch.name] = patch.apply()
        if _found[patch.name] != ON:
            _log.warning("the patch %s is %s", patch.name, _found[patch.name])


def found() -> dict[str, str]:
    """Returns `on`, or `off` and why, of each patch whose library has been imported."""
    return dict(_found)
