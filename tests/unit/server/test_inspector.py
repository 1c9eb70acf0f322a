"""The inspector's page: joined from all its parts, and served only on request."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from agentrunner.server.inspector import CONTENT_SECURITY_POLICY, SCRIPTS, STYLES, load_page
from support.agents import agent_with
from support.asgi import client_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import InMemoryAgentRunner

FOLDER = files("agentrunner.server").joinpath("inspector")


@pytest.mark.parametrize(("folder", "names"), [("styles", STYLES), ("scripts", SCRIPTS)])
def test_every_part_is_on_the_page_once(folder: str, names: tuple[str, ...]) -> None:
    parts = {part.name: part.read_text("utf-8") for part in FOLDER.joinpath(folder).iterdir()}
    assert sorted(parts) == sorted(names)
    page = load_page()
    assert all(page.count(text) == 1 for text in parts.values())


def test_the_page_loads_nothing_else() -> None:
    page = load_page()
    assert page.startswith("<!doctype html>")
    assert "{{" not in page.partition("<script>")[0]
    assert page.count("<script>") == page.count("<style>") == 1
    assert " src=" not in page


async def test_the_page_is_served_with_its_policy(memory_factory: Callable[..., InMemoryAgentRunner]) -> None:
    client = client_of(memory_factory(), {"default": agent_with()}, inspector=True)
    answer = await client.get("/inspector")
    assert (answer.status, answer.body.decode()) == (200, load_page())
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["cache-control"] == "no-cache"
    assert (await client.get("/")).headers["location"] == "inspector"


async def test_without_the_option_there_is_no_page(memory_factory: Callable[..., InMemoryAgentRunner]) -> None:
    client = client_of(memory_factory(), {"default": agent_with()})
    assert (await client.get("/inspector")).status == 404
