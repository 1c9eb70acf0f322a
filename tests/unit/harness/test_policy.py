"""The policy: what it may return, and the error of a run that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from agentrunner.harness import RunRefused, RunRequest
from agentrunner.harness.policy import ask_policy
from support.inputs import make_input

REQUEST = RunRequest("a", "t", "r", make_input("t", "r"), None, {}, None)


@pytest.mark.parametrize("answer", [True, None, [], ()])
async def test_a_run_is_admitted(answer: Any) -> None:
    async def later(request: RunRequest) -> Any:
        return answer

    await ask_policy(lambda _: answer, REQUEST)
    await ask_policy(later, REQUEST)
    await ask_policy(None, REQUEST)


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (False, ("the policy refused it",)),
        ("not today", ("not today",)),
        (["guests may not", "ask a colleague"], ("guests may not", "ask a colleague")),
        (("a", "b"), ("a", "b")),
    ],
)
async def test_a_run_is_refused_with_the_reasons(answer: Any, reasons: tuple[str, ...]) -> None:
    with pytest.raises(RunRefused, match="the run is refused: " + "; ".join(reasons)) as refused:
        await ask_policy(lambda _: answer, REQUEST)
    assert refused.value.reasons == reasons


@pytest.mark.parametrize(
    "answer",
    [
        0,
        1,
        3.5,
        object(),
        [1],
        ["reason", None],
        "",
        " ",
        [""],
        ["reason", " "],
        b"",
        b"no",
        {},
        {"a": 1},
        set(),
        {"a"},
    ],
)
async def test_any_other_answer_refuses_and_names_what_is_allowed(answer: Any) -> None:
    with pytest.raises(
        RunRefused, match=f"returned {type(answer).__name__}, but it must return True, None or an empty list"
    ):
        await ask_policy(lambda _: answer, REQUEST)


async def test_an_iterator_refuses_without_being_read() -> None:
    with pytest.raises(RunRefused, match="returned generator, but"):
        await ask_policy(lambda _: (reason for reason in ()), REQUEST)  # type: ignore[arg-type, return-value]


async def test_a_policy_that_fails_refuses() -> None:
    def broken(request: RunRequest) -> None:
        raise KeyError("user")

    with pytest.raises(RunRefused, match="the policy failed"):
        await ask_policy(broken, REQUEST)


async def test_a_policy_may_raise_the_refusal_itself() -> None:
    def policy(request: RunRequest) -> None:
        raise RunRefused("come back tomorrow", ("closed",))

    with pytest.raises(RunRefused, match="come back tomorrow"):
        await ask_policy(policy, REQUEST)
