"""Fits the schema of a tool to a model once, where pydantic-ai does it for every request, twice.

What it makes of a schema depends on nothing but the schema, the strictness that was asked for and
the class that does it. Schemas that are not plain JSON go the long way.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from axon_runner.patches.patch import Patch, alike, unchanged

_REMEMBERED = 1024

_Key = tuple[Any, bool | None, str]


class _Fitted:
    """Stands in for one function that fits the schema in `field` of its second argument."""

    def __init__(self, fit: Callable[[Any, Any], Any], field: str) -> None:
        self._fit = fit
        self._field = field
        # As text, because whoever gets a schema may change it.
        self._known: OrderedDict[_Key, tuple[str, bool | None]] = OrderedDict()

    def __call__(self, transformer: Any, definition: Any) -> Any:
        text = _plain(getattr(definition, self._field))
        if text is None:
            return self._fit(transformer, definition)
        key = (transformer, definition.strict, text)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            schema, strict = known
            return replace(definition, **{self._field: json.loads(schema), "strict": strict})
        fitted = self._fit(transformer, definition)
        made = _plain(getattr(fitted, self._field))
        if made is not None:
            self._known[key] = (made, fitted.strict)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return fitted


def _plain(schema: Any) -> str | None:
    """Returns a schema as text, or None if reading the text would give something else."""
    try:
        text = json.dumps(schema)
        return text if json.loads(text) == schema else None
    except (TypeError, ValueError, RecursionError):
        return None


def _install(_: Any) -> None:
    import pydantic_ai.models
    from pydantic_ai.output import OutputObjectDefinition
    from pydantic_ai.profiles.openai import OpenAIJsonSchemaTransformer
    from pydantic_ai.tools import ToolDefinition

    module: Any = pydantic_ai.models
    tools, outputs = module._customize_tool_def, module._customize_output_object
    unchanged(tools, "transformer", "tool_def")
    unchanged(outputs, "transformer", "output_object")
    fit_tool, fit_output = _Fitted(tools, "parameters_json_schema"), _Fitted(outputs, "json_schema")
    for strict in (None, True, False):
        tool = ToolDefinition(
            name="t", parameters_json_schema=_SCHEMA, description="d", strict=strict
        )
        output = OutputObjectDefinition(json_schema=_SCHEMA, name="o", strict=strict)
        for _ in range(2):
            transformer = OpenAIJsonSchemaTransformer
            alike(fit_tool(transformer, tool), tools(transformer, tool))
            alike(fit_output(transformer, output), outputs(transformer, output))
    module._customize_tool_def, module._customize_output_object = fit_tool, fit_output


_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "title": "Sample",
    "properties": {
        "a": {"type": "integer", "minimum": 0, "default": 1},
        "b": {"$ref": "#/$defs/B"},
        "c": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    },
    "required": ["a"],
    "$defs": {"B": {"type": "array", "items": {"type": "string", "maxLength": 9}}},
}

TOOL_SCHEMAS = Patch(
    name="tool_schemas",
    module="pydantic_ai.models.openai",
    distribution="pydantic-ai-slim",
    tried=((2, 68), (2, 69)),
    install=_install,
)
"""A tenth of the CPU of a model request, for an agent with one tool; more with more."""
