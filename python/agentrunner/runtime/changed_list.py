"""A session's messages after its client has changed those of the thread.

The client has edited or removed a message, gone back to an earlier one, or wants an answer again. The runner knows the
list that the run starts from (`Run.changed`), and the session follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner._core import REPLACED_ENTRY
from agentrunner.running.changed_messages import SAID, comparable_parts
from agentrunner.running.client_messages import is_claimed
from agentrunner.running.look_up import look_up
from agentrunner.runtime.history import select_new_messages
from agentrunner.runtime.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agentrunner.runtime.outcome import Interrupted
    from agentrunner.stores import Claim, Store

Message = dict[str, Any]


class ChangedList(NamedTuple):
    """The messages that a run starts from, and those that its thread had before."""

    messages: list[Message]
    """The messages as the page shows them, with marks on those that only the client claims exist."""
    thread: list[Message]
    seen_ids: set[str]
    """Ids of the session's messages that the thread has or had."""

    @property
    def trusted(self) -> list[Message]:
        """The messages without those that only the client claims exist."""
        return [message for message in self.messages if not is_claimed(message)]

    def is_left_behind(self, session: Session, waiting: Interrupted) -> bool:
        """Return whether the calls that wait for a decision are no longer among the messages."""
        ids = {message["id"] for message in self.messages}
        kept_calls = Session(session.id, [each for each in session.messages if each["id"] in ids]).call_ids()
        return kept_calls.isdisjoint(interrupt["toolCallId"] for interrupt in waiting.interrupts)


async def was_replaced(store: Store, claim: Claim) -> bool:
    """Return whether messages of a thread were ever replaced, so that some may be left behind."""
    return bool(await look_up(store, claim, [REPLACED_ENTRY]))


async def find_stored(store: Store, claim: Claim, messages: Iterable[Message]) -> set[str]:
    """Return the ids of those messages that a thread has or had.

    An answer that only the session has, because the process died before the thread had it, is not among them.
    """
    return set(await look_up(store, claim, [message["id"] for message in messages]))


def follow_list(
    session: Session, changed: ChangedList, results: Iterable[Message], *, take_history: bool
) -> tuple[list[Message], set[str]]:
    """Return a session's messages after a change, with the ids of the user's new ones.

    Edited user messages count as new. Messages that stay are the session's own copies. `results` are those of calls
    that had none; results stay behind their calls. New messages are taken as `select_new_messages` says.
    """
    own = {message["id"]: message for message in session.messages}
    results_by_call = {
        message["toolCallId"]: message for message in [*session.messages, *results] if message["role"] == "tool"
    }
    copies = find_copies(message for message in changed.thread if not is_claimed(message))
    listed = [
        copies.get((each["role"], each["id"]), each) if each["role"] != "user" else each for each in changed.messages
    ]
    new_messages = select_new_messages(
        session, [message for message in listed if not is_claimed(message)], take_history=take_history
    )
    new_by_id = {message["id"]: message for message in new_messages}
    new_results = {message["toolCallId"]: message for message in new_messages if message["role"] == "tool"}
    leading, unseen = _find_unseen(session, changed.seen_ids | {message["id"] for message in listed})
    messages = leading
    user_ids = set()
    for message in listed:
        stored = own.pop(message["id"], None)
        kept = (
            stored if stored is not None and stored["role"] == message["role"] else new_by_id.pop(message["id"], None)
        )
        if kept is None or kept["role"] == "tool":
            continue
        if message["role"] == "user" and (stored is None or _is_edited(message, stored, copies)):
            kept = message
            user_ids.add(message["id"])
        messages += [*unseen.get(message["id"], ()), kept]
        for call in kept.get("toolCalls") or ():
            result = results_by_call.get(call["id"]) or new_results.get(call["id"])
            messages += [result] if result is not None else []
    return messages, user_ids


def find_copies(thread: Iterable[Message]) -> dict[tuple[str, str], Message]:
    """Return messages by role and id."""
    copies: dict[tuple[str, str], Message] = {}
    for message in thread:
        # An agent may use one id for several messages; keep the first one.
        copies.setdefault((message["role"], message["id"]), message)
    return copies


def _is_edited(message: Message, stored: Message, copies: Mapping[tuple[str, str], Message]) -> bool:
    """Return whether a user has edited a message.

    The session's copy alone does not tell: middleware may have changed it, which not every client has seen.
    """
    known = [copy for copy in (stored, copies.get(("user", message["id"]))) if copy is not None]
    return comparable_parts(message) not in [comparable_parts(copy) for copy in known]


def _find_unseen(session: Session, seen_ids: set[str]) -> tuple[list[Message], dict[str, list[Message]]]:
    """Return the session's messages that clients have never seen and so cannot have removed.

    The first ones are the application's. Later ones, such as sealed reasoning, belong to the message behind them,
    whose id they are returned by; what users and assistants say is not among these.
    """
    start = next(
        (index for index, each in enumerate(session.messages) if each["id"] in seen_ids), len(session.messages)
    )
    unseen: dict[str, list[Message]] = {}
    waiting: list[Message] = []
    for message in session.messages[start:]:
        if message["id"] in seen_ids:
            unseen[message["id"]], waiting = waiting, []
        elif message["role"] not in SAID and message["role"] != "tool":
            waiting.append(message)
    return session.messages[:start], unseen
