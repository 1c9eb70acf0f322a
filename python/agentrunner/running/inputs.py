"""Check a run's input and scope before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner import _core
from agentrunner._codec import encode
from agentrunner.errors import InvalidEvent, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    return CheckedInput(model, *_core.check_input(data, max_id_bytes))


def check_scope(scope: str, max_id_bytes: int) -> None:
    """Check that a scope may be stored. Raises `InvalidInput`."""
    try:
        size = len(scope.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a scope must be valid text: {error}") from error
    if not 0 < size <= max_id_bytes:
        raise InvalidInput(f"a scope must have from 1 to {max_id_bytes} bytes, not {size}")
