"""Check the arguments of runs and readers before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner import _core
from agentrunner._checks import check_optional_text, check_stored_text, check_text
from agentrunner._codec import encode
from agentrunner.errors import InvalidEvent, InvalidInput
from agentrunner.types import AnyScope

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput


class CheckedInput(NamedTuple):
    """A valid input of a run, as a model and as JSON, with its ids."""

    model: RunAgentInput
    json: str
    thread_id: str
    run_id: str
    message_ids: list[str]


def read_input(input: RunAgentInput | Mapping[str, Any], max_id_bytes: int) -> CheckedInput:
    """Check a run's input. Raises `InvalidInput`."""
    # Imported when the first run starts, because it takes longer to load than the rest of the package.
    from ag_ui.core import RunAgentInput

    try:
        model = input if isinstance(input, RunAgentInput) else RunAgentInput.model_validate(input)
        data = encode(model)
    except (ValueError, InvalidEvent) as error:
        raise InvalidInput(f"the run's input is refused, and nothing was started: {error}") from error
    checked = CheckedInput(model, *_core.check_input(data, max_id_bytes))
    check_stored_text("the thread id", checked.thread_id)
    check_stored_text("the run id", checked.run_id)
    return checked


def input_for_agent(checked: CheckedInput) -> RunAgentInput:
    """Return the input with the agent's own ids in place of those that clients see."""
    json = _core.input_for_agent(checked.json)
    return checked.model if json is None else type(checked.model).model_validate_json(json)


def check_scope(scope: str, max_id_bytes: int) -> None:
    """Check that a scope may be stored. Raises `InvalidInput`."""
    check_stored_text("scope", scope)
    size = len(scope.encode())
    if not 0 < size <= max_id_bytes:
        raise InvalidInput(f"a scope must have from 1 to {max_id_bytes} bytes, not {size}")


def check_scope_filter(scope: object) -> None:
    """Check that an argument is a scope, `None` or `ANY_SCOPE`. Raises `InvalidInput`."""
    if not isinstance(scope, AnyScope):
        check_optional_text("scope", scope)


def check_options(
    agent: object, agent_id: str | None, scope: str | None, headers: Mapping[str, str] | None, max_id_bytes: int
) -> str | None:
    """Check a run's agent and options, and return the agent's name. Raises `InvalidInput`."""
    if not callable(getattr(agent, "run", agent)):
        raise InvalidInput(
            "an agent must be an object with `run(input)`, or a function of the input, that returns an async iterator "
            f"of events, not {type(agent).__name__}"
        )
    if headers is not None and not isinstance(headers, Mapping):
        raise InvalidInput(f"headers must be a mapping, not {type(headers).__name__}")
    if scope is not None:
        check_scope(scope, max_id_bytes)
    name: str | None = agent_id if agent_id is not None else getattr(agent, "agent_id", None)
    if name is not None:
        check_stored_text("agent_id", name)
    return name


def check_ids(thread_id: str, run_id: str | None = None) -> None:
    """Check that the ids of a thread and a run are text. Raises `InvalidInput`."""
    check_text("thread_id", thread_id)
    check_optional_text("run_id", run_id)


def check_known_messages(messages: Sequence[Mapping[str, Any]] | None) -> None:
    """Check that a reader's messages are AG-UI messages as dicts. Raises `InvalidInput`."""
    if messages is None:
        return
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence):
        raise InvalidInput(f"known must be a list of messages, not {type(messages).__name__}")
    for message in messages:
        if not isinstance(message, Mapping):
            raise InvalidInput(f"each message of known must be a dict, not {type(message).__name__}")
        if not isinstance(message.get("id"), str | None):
            raise InvalidInput(f"the id of a message of known must be a str, not {type(message['id']).__name__}")
