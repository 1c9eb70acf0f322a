"""Child processes that answer each JSON line on stdin with a line: one campaign round."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

from campaigns import start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from campaigns import Context

Question: TypeAlias = "dict[str, Any]"
Answer: TypeAlias = "dict[str, Any]"
AT_ONCE = 3
"""How many children run at a time: most of their time is waiting."""
PATIENCE = 120.0
"""Seconds without an answer after which a child counts as hanging."""


def ask(
    context: Context,
    module: str,
    questions: Sequence[Question],
    folder: Path,
    environment: Callable[[Path], dict[str, str]] = lambda _: {},
    arguments: Sequence[str] = (),
    before: Sequence[str] = (),
) -> list[Answer]:
    """Run `module` in its own folder, and return its answers to the questions.

    If the child dies, its answer is `died`, and another child takes the next question.

    `environment`: returns its environment variables for its folder. `arguments`: of its command line,
    after its folder and a seed. `before`: a command to start it with.
    """
    folder.mkdir()
    answers: list[Answer] = []
    while len(answers) < len(questions):
        log = folder / "stderr"
        with log.open("ab") as stderr:
            process = start(
                module, folder, context.random.random(), *arguments, mutation=context.mutation, before=before,
                env=environment(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            )  # fmt: skip
        with process:
            while len(answers) < len(questions):
                answer = _answer(process, questions[len(answers)])
                if answer is None:
                    answer = {"died": _last_words(log)}
                answers.append(answer)
                context.tick()
                if "died" in answer:
                    break
            process.stdin.close()  # type: ignore[union-attr]
        if b"panicked at" in log.read_bytes():
            answers[-1].setdefault("wrong", []).append(f"a panic: {_last_words(log)}")
    return answers


def ask_several(
    context: Context,
    module: str,
    questions: Sequence[Question],
    environment: Callable[[Path], dict[str, str]] = lambda _: {},
) -> list[tuple[Question, Answer]]:
    """Run several children side by side, and return each question with its answer."""
    parts = [questions[n::AT_ONCE] for n in range(AT_ONCE)]

    def part(number: int) -> list[tuple[Question, Answer]]:
        answers = ask(context, module, parts[number], context.folder / f"{module}-{number}", environment)
        return list(zip(parts[number], answers, strict=True))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [pair for pairs in pool.map(part, range(AT_ONCE)) for pair in pairs]


def _answer(process: subprocess.Popen[bytes], question: Question) -> Answer | None:
    watch = threading.Timer(PATIENCE, process.kill)
    watch.start()
    try:
        process.stdin.write(json.dumps(question).encode() + b"\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        answer: Answer = json.loads(process.stdout.readline())  # type: ignore[union-attr]
    except (OSError, ValueError):
        process.kill()
        return None
    finally:
        watch.cancel()
    return answer


def _last_words(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split())[-300:]


# The child's side


async def serve(answer: Callable[[int, Question], Awaitable[Answer]]) -> None:
    """Answer the numbered questions on stdin until there are no more."""
    for number, line in enumerate(sys.stdin):
        print(json.dumps(await answer(number, json.loads(line))), flush=True)
