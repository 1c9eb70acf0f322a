"""Rows and pages damaged in a closed file cost only what is damaged, with a typed error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from campaigns import Campaign, Outcome, children
from campaigns.damaged import CUT_SHORT, RUNS, WHOLE

if TYPE_CHECKING:
    import random

    from campaigns import Context

DAMAGED, OTHER = WHOLE
PAGE = 4096
PAGES = 130
"""The approximate number of pages in the file."""
DEEP = "[" * 100_000 + "]" * 100_000
NO_EVENTS: list[Any] = [
    "", "not JSON", '[{"type":"RUN_STARTED"', '{"type":"CUSTOM"}', "[1, 2]", '[{"no":"type"}]', '["x"]', "[null]", 7,
    1.5, DEEP, '[{"type":7}]', "[]x", "\x00", {"blob": "fffe00"}, {"blob": ""},
]  # fmt: skip
NO_FRAMES: list[Any] = [
    "", "text", 7, {"blob": ""}, {"blob": "00"}, {"blob": b"id: 1\n".hex()}, {"blob": b"id: x\ndata: {}\n\n".hex()},
    {"blob": b"id: 7\ndata: {\n\n".hex()}, {"blob": b"data: {}\n\n".hex()}, {"blob": b"id: 999999\ndata: {}\n\n".hex()},
]  # fmt: skip
VALUES: list[Any] = [
    -1, 0, 1, 2**53, 2**63 - 1, -(2**63), 1.5, "", "text", "\x00", "é" * 2000, DEEP, {"blob": "00ff"}, None,
]  # fmt: skip
FRAMES = """UPDATE journal SET frames = ? WHERE thread_id = '{thread}' AND first_seq =
  (SELECT first_seq FROM journal WHERE thread_id = '{thread}' AND first_seq >= (SELECT first_seq FROM live_runs)
   ORDER BY first_seq LIMIT 1 OFFSET {n})"""
COLUMNS = {
    "agent_runs": ("thread_id", "run_id", "parent_run_id", "events", "input", "created_at", "version"),
    "run_state": ("is_running", "current_run_id", "updated_at"),
    "live_runs": ("run_id", "token", "owner", "expires_at", "stop_requested", "input", "agent_id", "first_seq"),
    "journal": ("first_seq", "count", "frames"),
    "journal_expiry": ("first_seq", "last_seq", "expires_at"),
    "entries": ("message_id", "seq"),
    "run_index": ("thread_id", "first_seq", "last_seq", "own"),
    "threads": ("name", "archived", "agent_id", "head_seq", "runs", "created_at", "updated_at", "scope"),
}


def run(context: Context) -> Outcome:
    outcome = Outcome({"damaged": 0, "rows named by doctor": 0})
    makers = (bad_events, bad_frames, bad_column, bad_pages)
    questions = [makers[n % len(makers)](context.random) for n in range(context.rounds)]
    for question, answer in children.ask_several(context, "campaigns.damaged", questions):
        what = question["what"]
        outcome.count("damaged")
        if "died" in answer:
            outcome.fail(f"{what}: the process died or hung: {answer['died']}")
            continue
        outcome.count("typed errors", answer["refused"])
        if answer["integrity"] not in ("", "ok"):
            outcome.count("files doctor calls damaged")
        outcome.recovery_seconds.append(answer["seconds"])
        for wrong in [*answer["wrong"], *judge(question, answer)]:
            outcome.fail(f"{what}: {wrong}")
        outcome.count("rows named by doctor", len(answer["corrupt"]))
    return outcome


def bad_events(chance: random.Random) -> dict[str, Any]:
    n, value = chance.randrange(RUNS), chance.choice(NO_EVENTS)
    sql = f"UPDATE agent_runs SET events = ? WHERE run_id = '{DAMAGED}-{n}'"  # noqa: S608 - it is meant to harm
    return {"what": f"events of run {n} are {describe(value)}", "sql": sql, "value": value, "run": n}


def bad_frames(chance: random.Random) -> dict[str, Any]:
    n, value = chance.randrange(100), chance.choice(NO_FRAMES)
    sql = FRAMES.format(thread=CUT_SHORT, n=n)
    return {"what": f"raw frames {n} of a run cut short are {describe(value)}", "sql": sql, "value": value}


def bad_column(chance: random.Random) -> dict[str, Any]:
    table = chance.choice(list(COLUMNS))
    column, value = chance.choice(COLUMNS[table]), chance.choice(VALUES)
    thread = CUT_SHORT if table == "live_runs" else chance.choice((DAMAGED, CUT_SHORT))
    sql = f"UPDATE OR IGNORE {table} SET {column} = ? WHERE thread_id = '{thread}'"  # noqa: S608 - as above
    return {"what": f"{column} of {table} is {describe(value)}", "sql": sql, "value": value, "thread": thread}


def bad_pages(chance: random.Random) -> dict[str, Any]:
    damage, size = [], None
    way = chance.randrange(4)
    if way == 0:
        size = chance.randrange(PAGES * PAGE)
    for _ in range(chance.randrange(1, 5)):
        page = chance.randrange(PAGES) * PAGE
        if way == 1:
            damage.append((page, chance.randbytes(PAGE).hex()))
        elif way == 2:
            damage.append((page, bytes(PAGE).hex()))
        else:
            damage += [
                (page + chance.randrange(PAGE), chance.randbytes(1).hex()) for _ in range(chance.randrange(1, 9))
            ]
    pages = sorted({offset // PAGE for offset, _ in damage})
    return {"what": f"pages {pages} damaged" + (f", cut to {size}" if size else ""), "bytes": damage, "size": size}


def describe(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:40]}… ({len(text)} characters)"


def judge(question: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """Return what a damaged row cost beyond what it may cost."""
    if "sql" not in question:
        return []
    wrong = []
    every = {thread: [f"{thread}-{n}" for n in range(RUNS)] for thread in (*WHOLE, CUT_SHORT)}
    intact = {DAMAGED, OTHER, CUT_SHORT} - ({question["thread"]} if "thread" in question else set())
    if "run" in question:
        bad = every[DAMAGED].pop(question["run"])
        if [DAMAGED, bad] not in answer["corrupt"]:
            wrong.append(f"doctor names {answer['corrupt']}")
    for thread in sorted(intact):
        runs, went_on = answer["found"].get(thread) or (None, None)
        if runs is None or runs[: len(every[thread])] != every[thread]:
            wrong.append(f"thread {thread} has runs {runs}")
        if went_on != ["RUN_STARTED", "RUN_FINISHED"]:
            wrong.append(f"thread {thread} does not go on: {went_on}")
    return wrong


CAMPAIGN = Campaign(
    name="corruption",
    promise="disk faults",
    bar="doctor reports a damaged row, and only that row is lost; a damaged page raises a typed error; no panic, no "
    "hang; other threads can be read and take runs",
    backends=("sqlite",),
    small=24,
    full={"sqlite": 2000},
    run=run,
    mutations={"doctor_sees_no_rows": "doctor reports rows that cannot be read"},
)
