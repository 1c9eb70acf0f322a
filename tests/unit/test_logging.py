from __future__ import annotations

import logging
import re

import pytest

from agentrunner._logging import LOGGER_NAMES
from agentrunner._text import escape_controls
from support.paths import ROOT

HOSTILE = "doc\r\nCRITICAL forged\x1b[2J\x9b31m\u2028next\u202egnp.exe\udc80"
ESCAPED = r"doc\r\nCRITICAL forged\x1b[2J\x9b31m\u2028next\u202egnp.exe\udc80"


@pytest.mark.fault("C6")
@pytest.mark.parametrize("name", LOGGER_NAMES)
def test_a_log_line_holds_no_control_characters_from_outside(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, name):
        logging.getLogger(name).info("thread %s: run %s, event %d: %s", HOSTILE, "r1", 7, ValueError(HOSTILE))
    assert caplog.messages == [f"thread {ESCAPED}: run r1, event 7: {ESCAPED}"]


@pytest.mark.fault("C6")
def test_a_traceback_keeps_its_lines_and_no_other_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    try:
        int("\x1b[2J of thread \x9b31m")
    except ValueError as error:
        error.args = ("\x1b[2J of thread \x9b31m",)
        logging.getLogger("agentrunner").exception("it failed")
    assert r"ValueError: \x1b[2J of thread \x9b31m" in caplog.text.splitlines()
    assert "\x1b" not in caplog.text


@pytest.mark.fault("C6")
def test_every_logger_of_the_package_has_the_filter() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "python").rglob("*.py"))
    assert set(re.findall(r'getLogger\("([^"]*)"\)', sources)) == set(LOGGER_NAMES)


@pytest.mark.fault("C6")
async def test_a_hostile_thread_id_is_escaped_where_it_is_logged(
    memory_factory: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def agent(_: object) -> object:
        yield {"type": "RUN_STARTED", "threadId": HOSTILE[:-1], "runId": "r1"}
        raise RuntimeError("broken")

    runner = memory_factory()
    async for _ in runner.run(agent, {"threadId": HOSTILE[:-1], "runId": "r1", "messages": []}):
        pass
    assert ESCAPED.removesuffix(r"\udc80") in caplog.text
    assert not re.search("[\r\x1b\x9b\u2028\u202e]", caplog.text)


def test_text_without_control_characters_stays_as_it_is() -> None:
    text = "Grüße, 世界 👩 “quoted” \u05e9"
    assert escape_controls(text) == text
    assert escape_controls("two\n\tlines", is_one_line=False) == "two\n\tlines"
