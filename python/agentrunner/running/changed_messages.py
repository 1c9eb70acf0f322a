"""Find what a run's client has changed in its thread's messages (docs/spec/branches.md).

Clients send all messages with each run. A user may have edited or removed one, put a result beside its call, or gone
back to an earlier one. The run then starts from what was sent, and its stored events say so, so that every later reader
sees the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner._codec import encode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Message = dict[str, Any]

SAID = frozenset({"user", "assistant"})
"""Roles of the messages that every client sends again; some leave out the others."""


def comparable_parts(message: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the parts of a message that are the same in all copies, for comparison."""
    calls = [(call["id"], dict(call["function"])) for call in message.get("toolCalls") or ()]
    return message.get("role"), message.get("content") or "", calls, message.get("toolCallId")


def is_rewritten(message: Message, stored: Message) -> bool:
    """Return whether a client sends something else than a message of the thread says.

    The beginning of an answer is not something else: a client whose connection was lost has no more of it.
    """
    if comparable_parts(message) == comparable_parts(stored):
        return False
    if message["role"] != "assistant" or stored["role"] != "assistant":
        return True
    calls, stored_calls = message.get("toolCalls") or (), stored.get("toolCalls") or ()
    return not (
        _begins(stored.get("content") or "", message.get("content") or "")
        and len(calls) <= len(stored_calls)
        and all(
            (call["id"], call["function"]["name"]) == (other["id"], other["function"]["name"])
            and _begins(other["function"]["arguments"], call["function"]["arguments"])
            for call, other in zip(calls, stored_calls, strict=False)
        )
    )


def _begins(whole: Any, beginning: Any) -> bool:
    return isinstance(whole, str) and isinstance(beginning, str) and whole.startswith(beginning)


def find_changed_list(
    thread: Sequence[Message], sent: Sequence[Message], stored_ids: Collection[str], unseen_ids: Collection[str] = ()
) -> list[Message] | None:
    """Return the messages that a run starts from, or `None` if its client has changed nothing.

    `stored_ids` are ids that the thread has or has had: a message that was removed may come back. `unseen_ids` are
    those of messages that came after the client had sent its own, which it has not left out.

    A client that sends only new messages, only the newest ones, or none of the tools' and the reasoning has changed
    nothing. One that leaves out the last messages has gone back to an earlier one, to have it answered again.
    """
    indexes = {message["id"]: index for index, message in enumerate(thread)}
    unseen_ids = set(unseen_ids) - {message["id"] for message in sent}
    known = [message for message in sent if message["id"] in indexes]
    if not known:
        return None
    first = min(indexes[message["id"]] for message in known)
    spoken = [message for message in thread[first:] if message["role"] in SAID and message["id"] not in unseen_ids]
    if _is_same(thread, indexes, spoken, sent, stored_ids):
        return None
    return [*thread[:first], *_with_left_out(thread[first:], sent, unseen_ids)]


def _is_same(
    thread: Sequence[Message],
    indexes: Mapping[str, int],
    spoken: Sequence[Message],
    sent: Sequence[Message],
    stored_ids: Collection[str],
) -> bool:
    known_spoken: list[Message] = []
    has_new = False
    for message in sent:
        is_said, is_result = message["role"] in SAID, message["role"] == "tool"
        index = indexes.get(message["id"])
        if index is None and message["id"] in stored_ids:
            return False
        if index is None:
            has_new |= is_said or is_result
        elif is_said and has_new:
            return False
        elif is_said:
            known_spoken.append(message)
        elif is_result and comparable_parts(message) != comparable_parts(thread[index]):
            return False
    return [(message["id"], comparable_parts(message)) for message in known_spoken] == [
        (message["id"], comparable_parts(message)) for message in spoken
    ]


def _with_left_out(thread: Sequence[Message], sent: Sequence[Message], unseen_ids: Collection[str]) -> list[Message]:
    """Return what was sent, with the messages of the thread that clients may leave out.

    A result stays behind its call. Another message stays between the two that were said around it, and one that the
    client has not seen behind the one before it.
    """
    sent_ids = {message["id"] for message in sent}
    calls = {call["id"]: message["id"] for message in sent for call in message.get("toolCalls") or ()}
    answered = {message.get("toolCallId") for message in sent if message["role"] == "tool"}
    behind: dict[str, list[Message]] = {}
    before: dict[str, list[Message]] = {}
    waiting: list[Message] = []
    previous: str | None = None
    for message in thread:
        if message["id"] in unseen_ids:
            waiting.append(message)
        elif message["role"] in SAID:
            if message["id"] in sent_ids and (previous is None or previous in sent_ids):
                before.setdefault(message["id"], []).extend(waiting)
            waiting, previous = [], message["id"]
        elif message["id"] not in sent_ids:
            call_id = message.get("toolCallId")
            if call_id is None:
                waiting.append(message)
            elif call_id in calls and call_id not in answered:
                behind.setdefault(calls[call_id], []).append(message)
    if previous in sent_ids and previous is not None:
        behind.setdefault(previous, []).extend(waiting)
    merged = []
    for message in sent:
        merged += [*before.pop(message["id"], ()), message, *behind.pop(message["id"], ())]
    return merged


def make_opening(
    thread: Sequence[Message], new: Sequence[Message], changed: Sequence[Message], state: Any, thread_state: Any
) -> list[str]:
    """Return the events behind a run's start that give readers the changed messages.

    The client's state follows if it is another one. `new` are the messages that the run's start brings. A reader keeps
    the order of the messages that it has. If that differs, a first snapshot leaves it those in front of the first one
    that has moved.
    """
    changed_ids = {message["id"] for message in changed}
    readers_ids = [message["id"] for message in [*thread, *new] if message["id"] in changed_ids]
    in_place = 0
    for message, readers_id in zip(changed, readers_ids, strict=False):
        if message["id"] != readers_id:
            break
        in_place += 1
    lists = [changed] if in_place == len(readers_ids) else [changed[:in_place], changed]
    events = [{"type": "MESSAGES_SNAPSHOT", "messages": each} for each in lists]
    # A client without a state sends an empty one.
    if state and state != thread_state:
        events.append({"type": "STATE_SNAPSHOT", "snapshot": state})
    return [encode(event).decode("utf-8", "surrogatepass") for event in events]


def find_rewritten(thread: Iterable[Message], sent: Iterable[Message]) -> set[str]:
    """Return the ids of the messages, the user's apart, that a client has rewritten."""
    stored = {message["id"]: message for message in thread}
    return {
        message["id"]
        for message in sent
        if message["role"] != "user" and message["id"] in stored and is_rewritten(message, stored[message["id"]])
    }
