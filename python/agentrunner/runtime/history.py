"""Comparison of a run's messages with those of its session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.runtime.tools import ToolResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner.runtime.ledger import LedgerEntry
    from agentrunner.runtime.session import Session
    from agentrunner.runtime.tools import ToolCall

UNKNOWN_OUTCOME = ToolResult(
    "The outcome of this call is unknown: the process ended while the call was running. It was not run again.",
    "the outcome of the call is unknown",
)
NOT_RUN = ToolResult("This tool was not run: the run ended before its turn came.", "the call was not run")
NO_CLIENT_RESULT = ToolResult("The client gave no result for this call.", "the client gave no result")


def build_result_message(call_id: str, result: ToolResult) -> dict[str, Any]:
    """Return a tool's result as the message that clients make of its `TOOL_CALL_RESULT` event."""
    message: dict[str, Any] = {
        "id": f"{call_id}-result", "role": "tool", "toolCallId": call_id, "content": result.content,
    }  # fmt: skip
    if metadata := build_result_metadata(result):
        message["metadata"] = metadata
    return message


def build_result_metadata(result: ToolResult) -> dict[str, Any]:
    """Return what clients receive of a result besides its content."""
    error = {"error": result.error} if result.error is not None else {}
    return dict(result.metadata) | error


def find_calls_without_result(session: Session) -> list[str]:
    """Return the ids of the tool calls at the session's end that have no result yet."""
    call_ids_with_result = set()
    for message in reversed(session.messages):
        match message["role"]:
            case "tool":
                call_ids_with_result.add(message["toolCallId"])
            case "assistant":
                calls = message.get("toolCalls") or ()
                return [call["id"] for call in calls if call["id"] not in call_ids_with_result]
            case "user" | "system" | "developer":
                return []
    return []


def find_client_results(
    session: Session, calls: Iterable[ToolCall], messages: Iterable[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the client's pending tool results among the messages, by call id.

    `calls` are those of the last model response.
    """
    client_call_ids = {call.id for call in calls if call.client} & set(find_calls_without_result(session))
    return {message["toolCallId"]: message for message in messages if message.get("toolCallId") in client_call_ids}


def complete_results(
    session: Session,
    calls: Iterable[ToolCall],
    client_results: dict[str, dict[str, Any]],
    entries: dict[str, LedgerEntry],
) -> list[dict[str, Any]]:
    """Return a result for each call at the session's end that has none.

    The result states what is known about the call. Without it, the model's provider would refuse the conversation,
    because each call must be followed by its result.
    """
    client_call_ids = {call.id for call in calls if call.client}
    messages = []
    for call_id in find_calls_without_result(session):
        if call_id in client_results:
            messages.append(client_results[call_id])
            continue
        result = NO_CLIENT_RESULT if call_id in client_call_ids else NOT_RUN
        if call_id in entries:
            result = entries[call_id].tool_result or UNKNOWN_OUTCOME
        messages.append(build_result_message(call_id, result))
    return messages


def select_new_messages(
    session: Session, messages: list[dict[str, Any]], *, take_history: bool
) -> list[dict[str, Any]]:
    """Return those of a run's messages that the session takes over.

    These are new user messages and, with `take_history`, new responses of other agents. A tool's result is taken only
    together with its call. System and developer messages are never taken: the instructions are the application's, not
    its clients'.
    """
    known_ids = {message["id"] for message in session.messages}
    call_ids = session.call_ids()
    results = {message["toolCallId"]: message for message in messages if message["role"] == "tool"}
    new_messages = []
    for message in messages:
        if message["id"] in known_ids:
            continue
        known_ids.add(message["id"])
        if message["role"] == "user":
            new_messages.append(message)
        elif take_history and message["role"] == "assistant":
            calls = [
                call for call in message.get("toolCalls") or () if call["id"] in results and call["id"] not in call_ids
            ]
            answer = {name: value for name, value in message.items() if name != "toolCalls"}
            if calls:
                answer["toolCalls"] = calls
            if calls or answer.get("content"):
                new_messages.append(answer)
                new_messages += [results[call["id"]] for call in calls]
                known_ids |= {results[call["id"]]["id"] for call in calls}
                call_ids |= {call["id"] for call in calls}
    return new_messages


def find_regeneration_point(session: Session, messages: list[dict[str, Any]]) -> int | None:
    """Return how many messages to keep if a client wants its last user message answered again.

    Such a client sends the messages up to that user message, and the session has all of them and more. `None` means
    that the client wants something else.
    """
    if not messages or messages[-1]["role"] != "user":
        return None
    counts = {message["id"]: count for count, message in enumerate(session.messages, 1)}
    count = counts.get(messages[-1]["id"])
    return count if count is not None and count < len(session.messages) else None
