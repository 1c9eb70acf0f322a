"""Separate a client's own messages from those that it claims others wrote."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner import _core
from agentrunner._codec import decode, encode
from agentrunner.errors import InvalidInput
from agentrunner.events import fold
from agentrunner.running.changed_messages import (
    comparable_parts,
    find_changed_list,
    find_rewritten,
    make_opening,
)
from agentrunner.running.offload import run_by_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim, Event, Recorder
    from agentrunner.running.inputs import CheckedInput
    from agentrunner.stores import Store
    from agentrunner.types import Cursor

SOURCE = "agentrunner.source"
"""Field of a message's `metadata` that is "client" if only the client claims the message exists."""
HISTORY_PAGE_BYTES = 1 << 20
LOOP_MESSAGES = 1000
"""Most messages that are sorted on the event loop; more are sorted in a worker thread."""


class ChangedMessages(NamedTuple):
    """Messages that a run starts from, because its client has changed those of the thread."""

    shown: list[dict[str, Any]]
    """The messages as the client shows them, with marks on those that it claims or has rewritten."""
    trusted: list[dict[str, Any]]
    """The messages without those that the client claims, and as the thread has those that it has rewritten."""


class FoldedThread(NamedTuple):
    """A thread's messages and state before a run."""

    messages: list[dict[str, Any]]
    state: Any
    removed: dict[str, dict[str, Any]]
    """Messages that the thread had and has no longer, or only as a client has rewritten them, by id."""
    claimed_ids: set[str]
    """Ids of messages that only a client claimed, and that the thread has no longer."""


class SortedInput(NamedTuple):
    """A run's input with marks on the messages that only the client claims exist."""

    model: RunAgentInput
    json: str
    accepted_ids: frozenset[str]
    """Ids of the new messages that a client may send: the user's, results of open calls, a greeting."""
    has_new_messages: bool
    """Whether it has messages that the thread does not have, or changes those that it has."""
    previous: int | None = None
    """Hash of the thread's last message, which the run's first one follows."""
    entries: Sequence[str] = ()
    """Entries by which the thread's messages are compared from now on."""
    changed: ChangedMessages | None = None
    """Messages that the run starts from, if its client has changed those of the thread."""
    opening: Sequence[str] = ()
    """Events behind the run's start that say so, as JSON."""

    def join(self, recorder: Recorder) -> None:
        """Tell a run's recorder how the run is joined to its thread."""
        recorder.continue_from(self.previous, self.entries)
        recorder.start_from(self.opening)


def is_claimed(message: Mapping[str, Any]) -> bool:
    """Return whether a message has the mark of one that only a client claims exists."""
    metadata = message.get("metadata")
    return isinstance(metadata, dict) and metadata.get(SOURCE) == "client"


async def read_messages(store: Store, claim: Claim) -> list[dict[str, Any]]:
    """Return a thread's messages before a run, with the ids that its agents have used."""
    events = await _read_events(store, claim)
    # In a worker thread, because folding a long thread would block the event loop.
    return await asyncio.to_thread(lambda: with_agent_ids(fold(events).messages)) if events else []


def with_agent_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with the ids that the agent used instead of those that clients see."""
    json = _core.input_for_agent(encode({"messages": messages}).decode())
    replaced: list[dict[str, Any]] = messages if json is None else decode(json.encode())["messages"]
    return replaced


async def _read_events(store: Store, claim: Claim) -> list[Event]:
    events: list[Event] = []
    after: Cursor | None = (0, None)
    while after is not None:
        page = await store.history(claim.thread_id, after, claim.first_seq, HISTORY_PAGE_BYTES)
        events += page.frames.events()
        after = page.next
    return events


async def sort_messages(
    store: Store,
    claim: Claim,
    checked: CheckedInput,
    known_ids: Mapping[str, int],
    *,
    refuses: bool,
    unseen_from: int | None = None,
) -> SortedInput:
    """Return a run's input with marks on the messages that the client should not have written.

    `known_ids` are ids that the thread certainly has, and `CLAIMED_ENTRY` if it has a claimed message. The client sent
    its messages before the run that begins at `unseen_from`, if there is one. Raises `InvalidInput` if there are new
    messages of this kind and `refuses` is true.
    """
    messages = checked.model.messages
    comparison, previous = await run_by_size(len(checked.json), _core.compare_messages, checked.json, known_ids)
    # A run that answers an interrupt continues the thread that asked, whatever its client sends.
    may_be_changed = comparison == "different" and not checked.model.resume
    if len(messages) > LOOP_MESSAGES:
        user_ids, other_ids = await asyncio.to_thread(_find_new, messages, known_ids)
    else:
        user_ids, other_ids = _find_new(messages, known_ids)
    # A client sends the messages that it claims again with each run.
    if not other_ids and _core.CLAIMED_ENTRY not in known_ids and comparison != "different":
        return SortedInput(checked.model, checked.json, frozenset(user_ids), bool(user_ids), previous)
    # The store knows most ids, but not those of messages that exist only in snapshots.
    events = await _read_events(store, claim)
    thread = await asyncio.to_thread(_fold, events, {each.id for each in messages if each.role != "user"} - other_ids)
    sorted_input = await asyncio.to_thread(_sort, checked, user_ids, other_ids, thread, claim.thread_id, refuses)
    if not may_be_changed:
        return sorted_input._replace(previous=previous)
    return await asyncio.to_thread(_note_changes, sorted_input, events, thread, known_ids, unseen_from)


def _fold(events: list[Event], sent_ids: Collection[str]) -> FoldedThread:
    """Fold a thread's events, with those of the messages sent that the thread has no longer."""
    folded = fold(events)
    own_ids = {message["id"] for message in folded.messages if not is_claimed(message)}
    removed_ids = set(sent_ids) - own_ids
    removed: dict[str, dict[str, Any]] = {}
    run: list[Event] = []
    for event in [*events, None] if removed_ids else ():
        if event is None or event.type in ("RUN_STARTED", "MESSAGES_SNAPSHOT"):
            messages = fold(run).messages if run else []
            removed |= {each["id"]: each for each in messages if each["id"] in removed_ids and not is_claimed(each)}
        if event is None or event.type == "RUN_STARTED":
            run = []
        if event is not None:
            run.append(event)
    claimed_ids = removed_ids - removed.keys() - {message["id"] for message in folded.messages}
    return FoldedThread(folded.messages, folded.state, removed, claimed_ids)


def _note_changes(
    sorted_input: SortedInput,
    events: list[Event],
    thread: FoldedThread,
    known_ids: Collection[str],
    unseen_from: int | None,
) -> SortedInput:
    """Add what a client has changed, for a thread that must be compared as a whole."""
    sent = decode(sorted_input.json.encode("utf-8", "surrogatepass"))
    unseen_ids: set[str] = set()
    if unseen_from is not None:
        seen = fold(event for event in events if event.seq is not None and event.seq < unseen_from)
        unseen_ids = {message["id"] for message in thread.messages} - {message["id"] for message in seen.messages}
    changed = find_changed_list(thread.messages, sent["messages"], known_ids, unseen_ids)
    if changed is None:
        return sorted_input._replace(entries=_core.entries_of_input(sorted_input.json))
    new = [message for message in sent["messages"] if message["id"] not in known_ids]
    opening = make_opening(thread.messages, new, changed, sent.get("state"), thread.state)
    own = thread.removed | {message["id"]: message for message in thread.messages if not is_claimed(message)}
    trusted = [own.get(each["id"], each) if is_claimed(each) else each for each in changed]
    messages = ChangedMessages(changed, [message for message in trusted if not is_claimed(message)])
    return sorted_input._replace(has_new_messages=True, changed=messages, opening=opening)


def _find_new(messages: Iterable[Any], known_ids: Collection[str]) -> tuple[set[str], set[str]]:
    """Return the ids of the new messages: the user's, and all others."""
    user_ids: set[str] = set()
    other_ids: set[str] = set()
    for message in messages:
        if message.id not in known_ids:
            (user_ids if message.role == "user" else other_ids).add(message.id)
    return user_ids, other_ids


def _sort(
    checked: CheckedInput, user_ids: set[str], other_ids: set[str], thread: FoldedThread, thread_id: str, refuses: bool
) -> SortedInput:
    messages = decode(checked.json.encode("utf-8", "surrogatepass"))["messages"]
    thread_messages = thread.messages
    own_ids, result_ids = _compare(thread_messages, [each for each in messages if each["id"] in other_ids])
    greeting_ids = set() if thread_messages else _find_greeting(messages) & other_ids
    accepted_ids = frozenset(user_ids | result_ids | greeting_ids)
    has_new_messages = bool(user_ids or other_ids)
    # A message that was left behind may come back, but not with another text.
    stored_messages = [*thread.removed.values(), *thread_messages]
    claimed_ids = (other_ids - accepted_ids - own_ids) | find_rewritten(stored_messages, messages) | thread.claimed_ids
    repeated_ids = {message["id"] for message in thread_messages if is_claimed(message)} - other_ids
    if not claimed_ids | repeated_ids:
        return SortedInput(checked.model, checked.json, accepted_ids, has_new_messages)
    if refuses and claimed_ids:
        first = next(message for message in messages if message["id"] in claimed_ids)
        raise InvalidInput(
            f"the message '{first['id']}' with the role {first['role']} is refused, and nothing was started: thread "
            f"'{thread_id}' never had it so, and clients may send only messages of users and results of open calls"
        )
    model = _mark(checked.model, claimed_ids | repeated_ids)
    return SortedInput(model, encode(model).decode("utf-8", "surrogatepass"), accepted_ids, has_new_messages)


def _compare(thread_messages: list[dict[str, Any]], messages: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
    """Return the ids of messages that the thread has, and of results of its open calls."""
    by_id = {message["id"]: message for message in thread_messages}
    open_calls = {call["id"] for message in thread_messages for call in message.get("toolCalls") or ()}
    open_calls -= {message.get("toolCallId") for message in thread_messages if message["role"] == "tool"}
    own_ids: set[str] = set()
    result_ids: set[str] = set()
    for message in messages:
        if comparable_parts(message) == comparable_parts(by_id.get(message["id"], {})):
            own_ids.add(message["id"])
        elif message["role"] == "tool" and message["id"] not in by_id and message.get("toolCallId") in open_calls:
            # Only the first result of a call counts: after that the call is no longer open.
            open_calls.discard(message["toolCallId"])
            result_ids.add(message["id"])
    return own_ids, result_ids


def _find_greeting(messages: list[dict[str, Any]]) -> set[str]:
    """Return the ids of the assistant's messages before the first user message."""
    ids: set[str] = set()
    for message in messages:
        if message["role"] == "user":
            break
        if message["role"] == "assistant" and not message.get("toolCalls"):
            ids.add(message["id"])
    return ids


def _mark(model: RunAgentInput, claimed_ids: set[str]) -> RunAgentInput:
    """Return an input with marks on the messages that only the client claims exist."""
    messages = []
    for message in model.messages:
        if message.id in claimed_ids and message.role != "user":
            metadata = getattr(message, "metadata", None)
            fields = metadata if isinstance(metadata, dict) else {}
            message = message.model_copy(update={"metadata": {**fields, SOURCE: "client"}})
        messages.append(message)
    return model.model_copy(update={"messages": messages})
