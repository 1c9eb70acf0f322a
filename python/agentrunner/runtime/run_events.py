"""The AG-UI events around a turn: the run's start, its messages, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner._protocol import read_protocol_version
from agentrunner.runtime.outcome import Completed, Failed, Interrupted, WaitingForClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner.runtime.llm import Usage
    from agentrunner.runtime.session import Session
    from agentrunner.runtime.turn_start import TurnStart


def start_events(input: RunAgentInput, start: TurnStart) -> Iterator[dict[str, Any]]:
    """Iterate over the events that come before a turn's own."""
    event = {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    if input.parent_run_id is not None:
        event["parentRunId"] = input.parent_run_id
    if read_protocol_version(input) is not None:
        event["protocolVersion"] = "1.0"
    yield event
    if start.needs_snapshot:
        yield from _replay_messages(start.session)


def end_events(input: RunAgentInput, session: Session, requests: Sequence[Usage]) -> Iterator[dict[str, Any]]:
    """Iterate over the events that come after a turn's own: its outcome and token usage."""
    usage = sum_usage(requests)
    cost = {"usage": usage} if usage else {}
    finished: dict[str, Any] = {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id, **cost}
    match session.outcome:
        case Failed(error):
            yield {"type": "RUN_ERROR", "message": error, **cost}
        case Interrupted(interrupts):
            # A client that returns later to decide must find everything that the interrupts refer to.
            if session.client_input.get("state") is not None:
                yield {"type": "STATE_SNAPSHOT", "snapshot": session.client_input["state"]}
            yield _snapshot(session)
            yield finished | {"outcome": {"type": "interrupt", "interrupts": interrupts}}
        case WaitingForClient(call_ids) if read_protocol_version(input) is not None:
            # Legacy clients do not know this field; they find the calls in the stream.
            yield finished | {"outcome": {"type": "success", "pendingToolCallIds": call_ids}}
        case Completed() | WaitingForClient():
            yield finished


def sum_usage(requests: Sequence[Usage]) -> list[dict[str, Any]]:
    """Return the tokens of all model requests together, as AG-UI's token usage."""
    if not requests:
        return []
    sums = {
        "inputTokens": sum(usage.input_tokens for usage in requests),
        "outputTokens": sum(usage.output_tokens for usage in requests),
        "cachedInputTokens": sum(usage.cached_tokens for usage in requests),
        "reasoningTokens": sum(usage.reasoning_tokens for usage in requests),
    }
    sums["totalTokens"] = sums["inputTokens"] + sums["outputTokens"]
    return [{name: count for name, count in sums.items() if count}]


def _snapshot(session: Session) -> dict[str, Any]:
    return {"type": "MESSAGES_SNAPSHOT", "messages": list(session.messages)}


def _replay_messages(session: Session) -> Iterator[dict[str, Any]]:
    """Iterate over events with all messages, and stream the final answer if there is one."""
    last = session.messages[-1] if session.messages else {}
    if not isinstance(session.outcome, Completed) or last.get("role") != "assistant" or not last.get("content"):
        yield _snapshot(session)
        return
    yield {"type": "MESSAGES_SNAPSHOT", "messages": session.messages[:-1]}
    yield {"type": "TEXT_MESSAGE_START", "messageId": last["id"], "role": "assistant"}
    yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": last["id"], "delta": last["content"]}
    yield {"type": "TEXT_MESSAGE_END", "messageId": last["id"]}
