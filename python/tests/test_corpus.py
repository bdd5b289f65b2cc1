"""The schemas, values and texts that Rust is tested with too: both ends have to agree on each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from axon_runner.decode import DecodeError, decode
from axon_runner.launch import ConfigError
from axon_runner.schemas import SchemaCheck

CORPUS = Path(__file__).parents[2] / "tests" / "corpus"
SOURCES = Path(__file__).parents[1] / "src"

TOLD = {
    "syntax": "invalid JSON",
    "surrogate": "invalid JSON",
    "depth": "nested deeper|recursion limit",
    "number": "out of range",
    "key": "same key twice",
}


def entries(name: str) -> list[Any]:
    """What one file of the corpus holds, each as a case with its name."""
    found = json.loads((CORPUS / name).read_bytes())
    return [pytest.param(entry, id=entry["name"]) for entry in found]


def body(entry: dict[str, Any]) -> bytes:
    """The text of an entry: bytes, or pieces that are repeated."""
    if "hex" in entry:
        return bytes.fromhex(entry["hex"])
    return "".join(piece * times for piece, times in entry["pieces"]).encode()


@pytest.mark.parametrize("entry", entries("schemas.json"))
def test_values_fit_their_schema_or_break_it(entry: dict[str, Any]) -> None:
    if entry.get("refused"):
        with pytest.raises(ConfigError):
            SchemaCheck(entry["schema"], "it")
        return
    check = SchemaCheck(entry["schema"], "it")
    for value in entry["fits"]:
        assert check.faults(value) == "", value
    for value in entry["breaks"]:
        assert check.faults(value) != "", value


@pytest.mark.parametrize("entry", entries("texts.json"))
def test_texts_are_decoded_or_refused(entry: dict[str, Any]) -> None:
    if "refused" not in entry:
        decode(body(entry), 64)
        return
    with pytest.raises(DecodeError, match=TOLD[entry["refused"]]) as refused:
        decode(body(entry), 64)
    assert len(str(refused.value)) < 1000


MEASURE = r"""
import sys
from axon_runner.decode import DecodeError, decode

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

body = eval(sys.argv[1])
before = peak()
try:
    decode(body, 64)
except DecodeError:
    pass
print(peak() - before)
"""


@pytest.mark.parametrize(
    "made",
    [
        "b'\"' + b'x' * 10_000_000 + b'\"'",
        r"""b'"' + b'\\u00e9' * 1_700_000 + b'"'""",
        "b'[' * 10_000_000",
        "b'7' * 10_000_000",
        "b'0.' + b'7' * 10_000_000",
        "b'\"' + b'x' * 10_000_000",
    ],
)
def test_ten_megabytes_take_a_bounded_amount_of_memory(made: str) -> None:
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, made],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": str(SOURCES)},
    )
    grown = int(re.findall(r"\d+", measured.stdout)[-1])
    assert grown < 64 * 1024, f"{grown} KiB"
