"""What of a run's messages a session does not have yet, and what it lacks itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.runtime.tools import ToolResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner.runtime.ledger import LedgerEntry
    from agentrunner.runtime.session import Session
    from agentrunner.runtime.tools import ToolCall

UNKNOWN = ToolResult(
    "The outcome of this call is unknown: the process ended while it ran. It was not run again.",
    "the outcome of the call is unknown",
)
NOT_RUN = ToolResult("This tool was not run: the run ended before its turn came.", "the call was not run")
NO_RESULT = ToolResult("The client gave no result for this call.", "the client gave no result")


def result_message(call_id: str, result: ToolResult) -> dict[str, Any]:
    """Give a tool's result as a message in AG-UI's wire form: the one clients make of its event."""
    message: dict[str, Any] = {
        "id": f"{call_id}-result", "role": "tool", "toolCallId": call_id, "content": result.content,
    }  # fmt: skip
    if metadata := result_metadata(result):
        message["metadata"] = metadata
    return message


def result_metadata(result: ToolResult) -> dict[str, Any]:
    """Give what clients are told of a result beside its content."""
    error = {"error": result.error} if result.error is not None else {}
    return dict(result.metadata) | error


def unanswered(session: Session) -> list[str]:
    """Give the ids of the tool calls at the session's end that have no result yet."""
    answered = set()
    for message in reversed(session.messages):
        match message["role"]:
            case "tool":
                answered.add(message["toolCallId"])
            case "assistant":
                return [call["id"] for call in message.get("toolCalls") or () if call["id"] not in answered]
            case "user" | "system" | "developer":
                return []
    return []


def client_results(
    session: Session, calls: Iterable[ToolCall], messages: Iterable[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Give, by call id, those messages that are results a client may give now; `calls` are the last turn's."""
    wanted = {call.id for call in calls if call.client} & set(unanswered(session))
    return {message["toolCallId"]: message for message in messages if message.get("toolCallId") in wanted}


def settled(
    session: Session, calls: Iterable[ToolCall], brought: dict[str, dict[str, Any]], begun: dict[str, LedgerEntry]
) -> list[dict[str, Any]]:
    """Give a result for each call that has none, so that the turn can end there: what is known of it.

    A model's service takes no conversation in which a call is parted from its result.
    """
    clients = {call.id for call in calls if call.client}
    made = []
    for call_id in unanswered(session):
        if call_id in brought:
            made.append(brought[call_id])
            continue
        result = NO_RESULT if call_id in clients else NOT_RUN
        if call_id in begun:
            result = begun[call_id].done or UNKNOWN
        made.append(result_message(call_id, result))
    return made


def fresh(session: Session, messages: list[dict[str, Any]], *, history: bool) -> list[dict[str, Any]]:
    """Give those of a run's messages that the session takes over: users', and (`history`) what others have said.

    A tool's result is taken only with the call it belongs to, so that no client can answer for the runtime's tools.
    """
    known = {message["id"] for message in session.messages}
    calls = session.call_ids()
    results = {message["toolCallId"]: message for message in messages if message["role"] == "tool"}
    taken = []
    for message in messages:
        if message["id"] in known:
            continue
        known.add(message["id"])
        if message["role"] == "user" or (history and message["role"] in ("system", "developer")):
            taken.append(message)
        elif history and message["role"] == "assistant":
            whole = [
                call for call in message.get("toolCalls") or () if call["id"] in results and call["id"] not in calls
            ]
            said = {name: value for name, value in message.items() if name != "toolCalls"}
            if whole:
                said["toolCalls"] = whole
            if whole or said.get("content"):
                taken.append(said)
                taken += [results[call["id"]] for call in whole]
                known |= {results[call["id"]]["id"] for call in whole}
                calls |= {call["id"] for call in whole}
    return taken


def asked_again(session: Session, messages: list[dict[str, Any]]) -> int | None:
    """Give how many messages the session is cut to where a client wants its last question answered once more.

    Such a client sends the messages up to that question, all of which the session has. `None`: it does not.
    """
    if not messages or messages[-1]["role"] != "user":
        return None
    places = {message["id"]: number for number, message in enumerate(session.messages, 1)}
    place = places.get(messages[-1]["id"])
    return place if place is not None and place < len(session.messages) else None
