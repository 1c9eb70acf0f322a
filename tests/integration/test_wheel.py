"""The wheel `make wheel` builds, installed where there is no Rust."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from support.paths import ROOT

SMOKE = """
import asyncio, sys, agentrunner

async def agent(input):
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "hello"}
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}

async def main():
    async with agentrunner.SqliteAgentRunner(sys.argv[1]) as runner:
        async for _ in await runner.run(agent, {"threadId": "t", "runId": "r", "messages": []}):
            pass
        return await runner.threads.messages("t")

print(asyncio.run(main()))
heavy = {"typer", "rich", "pydantic_ai", "starlette"} & set(sys.modules)
assert not heavy, heavy
"""


def wheels() -> list[Path]:
    return sorted((ROOT / "dist").glob("agentrunner-*.whl"))


@pytest.mark.skipif(not wheels(), reason="not run: no wheel in dist/, `make wheel` builds it")
def test_the_wheel_works_in_a_clean_environment_without_rust(tmp_path: Path) -> None:
    (wheel,) = wheels()
    assert "-cp311-abi3-" in wheel.name
    assert wheel.stat().st_size <= 6 * 1024 * 1024
    # The inspector's page is joined from these files when it is served.
    assert "agentrunner/server/inspector/page.html" in zipfile.ZipFile(wheel).namelist()
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    # Only what the environment and the system bring: no cargo.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CARGO", "RUST", "VIRTUAL_ENV"))}
    env["PATH"] = f"{python.parent}:/usr/bin:/bin"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, env=env, timeout=300)
    done = subprocess.run(
        [python, "-c", SMOKE, tmp_path / "t.db"], check=True, env=env, timeout=60, capture_output=True, text=True
    )
    assert done.stdout == "[{'id': 'm', 'role': 'assistant', 'content': 'hello'}]\n"
    listed = subprocess.run([python, "-m", "agentrunner", "threads", "x.db"], env=env, capture_output=True, text=True)
    assert listed.returncode == 2
    assert "agentrunner[cli]" in listed.stderr


def test_importing_brings_in_nothing_heavy() -> None:
    code = "import sys, agentrunner; print(sorted({'typer', 'rich', 'pydantic_ai', 'sqlite3'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
