"""Build and read the inputs of runs in the same way with ag-ui-protocol 0.1 and 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ag_ui.core import RunAgentInput

_EMPTY: dict[str, tuple[str, Callable[[], Any]]] = {
    "tools": ("tools", list),
    "context": ("context", list),
    "forwarded_props": ("forwardedProps", dict),
}
"""Fields that AG-UI 1.0 does not require, each with its name in JSON and its empty value."""


def build_input(content: object) -> RunAgentInput:
    """Return the input of a run that a mapping describes.

    Raises `pydantic.ValidationError`.
    """
    from ag_ui.core import RunAgentInput

    if isinstance(content, Mapping):
        content = _drop_twins(content)
        if "protocol_version" not in RunAgentInput.model_fields:
            content = _adapt_content(content)
    return RunAgentInput.model_validate(content)


def _drop_twins(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an input that has each field only once, under its name in JSON.

    If a field comes under its name in Python too, that value counts only where the other one is missing or empty.
    """
    # `ag_ui` accepts both names. It would keep the second value as an unknown field, which is stored without any check.
    twins = {name: alias for name, alias in _list_aliases().items() if name in content}
    if not twins:
        return content
    merged = {name: value for name, value in content.items() if name not in twins}
    for name, alias in twins.items():
        merged[alias] = content.get(alias) or content[name]
    return merged


@cache
def _list_aliases() -> dict[str, str]:
    """Return the JSON names of an input's fields whose Python names differ, by these."""
    from ag_ui.core import RunAgentInput

    fields = RunAgentInput.model_fields.items()
    return {name: field.alias for name, field in fields if field.alias and field.alias != name}


def _adapt_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an input of AG-UI 1.0 with all fields that ag-ui-protocol 0.1 requires.

    Raises `pydantic.ValidationError` for a version that is no text. ag-ui-protocol 0.1 would take it, but clients could
    not read the run's start.
    """
    from pydantic import ValidationError

    version = content.get("protocolVersion")
    if not isinstance(version, str | None):
        raise ValidationError.from_exception_data(
            "RunAgentInput", [{"type": "string_type", "loc": ("protocolVersion",), "input": version}]
        )
    missing = {
        alias: make_empty()
        for name, (alias, make_empty) in _EMPTY.items()
        if content.get(alias) is None and content.get(name) is None
    }
    return {**content, **missing}


def read_protocol_version(input: RunAgentInput) -> str | None:
    """Return the protocol version that a client names; `None` for one older than AG-UI 1.0."""
    # ag-ui-protocol 0.1 does not know the field, and keeps it under its name in JSON.
    version = getattr(input, "protocol_version", None) or getattr(input, "protocolVersion", None)
    return version if isinstance(version, str) else None
