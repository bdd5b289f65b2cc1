"""Prints the JSON Schema of the Python type that the first argument names, as one line."""

import importlib
import json
import sys

report, sys.stdout = sys.stdout, sys.stderr
target, *path = sys.argv[1:]
sys.path.extend(path)
module_name, _, attribute = target.partition(":")
try:
    found = getattr(importlib.import_module(module_name), attribute)
    from pydantic import TypeAdapter

    adapter = found if isinstance(found, TypeAdapter) else TypeAdapter(found)
    said = {"schema": adapter.json_schema(by_alias=True)}
except BaseException as error:  # noqa: BLE001 - the boundary: whatever it is, Rust is told
    said = {"error": f"{type(error).__name__}: {error}"}
report.write(json.dumps(said) + "\n")
report.flush()
