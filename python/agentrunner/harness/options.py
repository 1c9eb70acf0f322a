"""Check the options of a harness and the arguments of its methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from agentrunner.errors import InvalidInput
from agentrunner.harness.types import ItemKind, RecordRetention, Recovery, Router
from agentrunner.running.agent_checks import find_problem, find_shared_id

if TYPE_CHECKING:
    from agentrunner.types import Agent

NAME_BYTES = 1024
"""Greatest size of the name of a harness or of an agent in UTF-8."""


def check_agents(agents: Mapping[str, Agent]) -> None:
    """Raise `ValueError` if there are no agents, one cannot be run, or two have the same id."""
    _require(isinstance(agents, Mapping), "agents must be a mapping of names to agents", agents)
    if not agents:
        raise ValueError("a harness needs at least one agent")
    for name, agent in agents.items():
        _check_name("the name of an agent", name)
        if (problem := find_problem(agent)) is not None:
            raise ValueError(f"agent {name!r} {problem}")
    if (problem := find_shared_id(agents)) is not None:
        raise ValueError(problem)


def check_options(
    *, max_concurrent_runs: Any, recovery: Any, router: Any, policy: Any, retention: Any, name: Any
) -> None:
    """Raise `ValueError` if an option has a value that its type does not allow."""
    is_count = isinstance(max_concurrent_runs, int) and not isinstance(max_concurrent_runs, bool)
    _require(
        max_concurrent_runs is None or (is_count and max_concurrent_runs > 0),
        "max_concurrent_runs must be a positive integer or None",
        max_concurrent_runs,
    )
    _require(isinstance(recovery, Recovery), "recovery must be a Recovery", recovery)
    _require(router is None or isinstance(router, Router), "router must be a Router or None", router)
    _require(policy is None or callable(policy), "policy must be a function or None", policy)
    _require(
        retention is None or isinstance(retention, RecordRetention),
        "retention must be a RecordRetention or None",
        retention,
    )
    _check_name("name", name)


def _require(is_valid: bool, rule: str, value: object) -> None:
    if not is_valid:
        raise ValueError(f"{rule}, not {value!r}")


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"{what} must be a string that is not empty, not {name!r}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be valid text, not {name!r}") from None
    if size > NAME_BYTES or "\0" in name:
        raise ValueError(f"{what} can have at most {NAME_BYTES} bytes and no NUL, not {name!r}")


def check_listeners(listeners: object) -> None:
    """Raise `InvalidInput` if a listener of a run would never be called."""
    if listeners is None:
        return
    kinds = get_args(ItemKind)
    if not isinstance(listeners, Mapping):
        raise InvalidInput(f"listeners must be a mapping of {', '.join(kinds)} to functions, not {listeners!r}")
    for kind, value in listeners.items():
        check_choice("a kind of listeners", kind, kinds)
        for listener in value if isinstance(value, (list, tuple)) else [value]:
            check_listener(listener)


def check_listener(listener: object) -> None:
    """Raise `InvalidInput` if a listener is not a function."""
    if not callable(listener):
        raise InvalidInput(f"a listener must be a function of one argument, not {listener!r}")


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """Raise `InvalidInput` if a value is not one of the choices."""
    if value not in choices:
        raise InvalidInput(f"{what} must be one of {', '.join(choices)}, not {value!r}")
