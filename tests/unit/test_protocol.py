"""Inputs of runs with ag-ui-protocol 0.1, which some frameworks still need."""

from __future__ import annotations

from typing import Any

import pytest
from ag_ui import core
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from agentrunner._protocol import build_input, read_protocol_version

pytestmark = pytest.mark.fault("D6")
FIELDS = {"threadId": "t", "runId": "r", "messages": []}


class OldInput(BaseModel):
    """The `RunAgentInput` of ag-ui-protocol 0.1.22, as far as it differs from that of 1.0."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True)

    thread_id: str
    run_id: str
    messages: list[Any]
    tools: list[Any]
    context: list[Any]
    forwarded_props: Any


@pytest.fixture(autouse=True)
def _old_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "RunAgentInput", OldInput)


@pytest.mark.parametrize("absent", [{}, {"tools": None, "context": None, "forwardedProps": None}])
def test_fields_that_only_the_old_version_requires_are_empty(absent: dict[str, None]) -> None:
    first, second = (build_input(FIELDS | absent) for _ in range(2))
    assert (first.tools, first.context, first.forwarded_props) == ([], [], {})
    assert first.forwarded_props is not second.forwarded_props


@pytest.mark.parametrize("name", ["forwardedProps", "forwarded_props"])
def test_fields_that_are_there_are_kept(name: str) -> None:
    assert build_input({**FIELDS, name: {"a": 1}, "tools": [1]}).forwarded_props == {"a": 1}


def test_fields_that_every_version_requires_may_not_be_absent() -> None:
    with pytest.raises(ValidationError, match="threadId"):
        build_input({"runId": "r", "messages": []})
    with pytest.raises(ValidationError):
        build_input(["threadId"])


def test_the_client_s_version_is_known() -> None:
    assert read_protocol_version(build_input(FIELDS)) is None
    assert read_protocol_version(build_input(FIELDS | {"protocolVersion": "1.0"})) == "1.0"


@pytest.mark.parametrize("version", [1, True, [], {}])
def test_a_version_that_is_no_text_is_refused(version: Any) -> None:
    with pytest.raises(ValidationError, match="protocolVersion"):
        build_input(FIELDS | {"protocolVersion": version})
