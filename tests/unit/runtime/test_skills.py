"""Skills: what a model is told of those in use and of the others, their tools, and folders of `SKILL.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import agentrunner as ar
from agentrunner.runtime.skills import USE_SKILL, Skill, SkillPrompter, load_skills
from agentrunner.runtime.tools import InvalidArguments, Tool

if TYPE_CHECKING:
    from pathlib import Path


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def book(table: int) -> str:
    """Book a table."""
    return f"booked {table}"


TRAVEL = Skill("travel", "Plans trips.\nUse it for journeys.", "Ask for the month first.", [weather])
DINNER = Skill("dinner", "Finds restaurants.", "Never before eight.", [book, weather])


def names(tools: list[Tool]) -> list[str]:
    return [tool.name for tool in tools]


def using(name: str, key: str = "c1", **result: Any) -> list[dict[str, Any]]:
    """Give the messages of a call of `use_skill`; with an `error`, of one that failed."""
    call = {"id": key, "type": "function", "function": {"name": USE_SKILL, "arguments": f'{{"name": "{name}"}}'}}
    return [
        {"id": "m1", "role": "assistant", "toolCalls": [call]},
        {"id": "m2", "role": "tool", "toolCallId": key, "content": "ok", **result},
    ]


def test_those_in_use_are_told_and_the_others_are_listed() -> None:
    prompter = SkillPrompter([TRAVEL, DINNER])
    prompt = prompter.prompt(["travel"])
    assert "# Skill: travel\n\nAsk for the month first." in prompt
    assert "- dinner: Finds restaurants." in prompt
    assert "Never before eight." not in prompt
    assert names(prompter.tools(["travel"])) == ["weather", USE_SKILL]


def test_where_all_are_in_use_there_is_no_list() -> None:
    prompter = SkillPrompter([TRAVEL, DINNER])
    everything = prompter.find_active(None)
    assert everything == ["travel", "dinner"]
    assert names(prompter.tools(everything)) == ["weather", "book"]
    assert USE_SKILL not in prompter.prompt(everything)
    assert "Never before eight." in prompter.prompt(everything)


def test_a_list_has_a_line_a_skill() -> None:
    prompt = SkillPrompter([TRAVEL, DINNER]).prompt([])
    assert prompt.endswith("- travel: Plans trips. Use it for journeys.\n- dinner: Finds restaurants.")


def test_no_skills_say_nothing() -> None:
    prompter = SkillPrompter([])
    assert (prompter.prompt([]), prompter.tools([]), prompter.toolbox(()), prompter.find_active(None)) == (
        "",
        [],
        {},
        [],
    )


def test_what_the_model_takes_into_use_stays_in_use() -> None:
    prompter = SkillPrompter([TRAVEL, DINNER])
    assert prompter.find_active(["travel"], using("dinner")) == ["travel", "dinner"]
    assert prompter.find_active([], using("dinner", error="denied")) == []
    assert prompter.find_active([], using("dinner")[:1]) == [], "it was not run"
    assert prompter.find_active(["gone"], using("cooking")) == [], "skills that are no more"
    other = using("dinner")
    other[0]["toolCalls"][0]["function"]["arguments"] = "{"
    assert prompter.find_active([], other) == []


async def test_the_model_is_told_which_it_may_take() -> None:
    tool = SkillPrompter([TRAVEL, DINNER]).toolbox(())[USE_SKILL]
    assert tool.spec.parameters["properties"]["name"]["enum"] == ["travel", "dinner"]
    with pytest.raises(InvalidArguments):
        tool.validate('{"name": "cooking"}')
    assert "'dinner' is in use" in (await tool.call(tool.validate('{"name": "dinner"}'), None)).content  # type: ignore[arg-type]


def test_all_tools_may_be_run_whatever_is_in_use() -> None:
    own = Tool(lambda: "now", name="now")
    box = SkillPrompter([TRAVEL, DINNER]).toolbox([own])
    assert sorted(box) == ["book", "now", USE_SKILL, "weather"]
    assert box["now"] is own


def test_tools_do_not_clash() -> None:
    def other(city: str) -> str:
        return city

    clash = Skill("walk", "Walks.", "Slowly.", [Tool(other, name="weather")])
    with pytest.raises(
        ar.ToolNameClash, match="'weather': one of the skill 'travel', one of the skill 'walk'"
    ) as raised:
        SkillPrompter([TRAVEL, clash])
    assert raised.value.name == "weather"
    with pytest.raises(ar.ToolNameClash, match="one of the runtime, one of the skill 'travel'"):
        SkillPrompter([TRAVEL]).toolbox([Tool(other, name="weather")])
    with pytest.raises(ar.ToolNameClash, match=USE_SKILL):
        SkillPrompter([Skill("walk", "Walks.", "Slowly.", [Tool(other, name=USE_SKILL)])])


@pytest.mark.parametrize(
    ("name", "description", "instructions"),
    [("", "x", "x"), ("a b", "x", "x"), ("a" * 65, "x", "x"), ("a", " ", "x"), ("a", "x" * 1025, "x"), ("a", "x", "")],
)
def test_a_skill_needs_what_it_needs(name: str, description: str, instructions: str) -> None:
    with pytest.raises(ar.SkillInvalid):
        Skill(name, description, instructions)
    with pytest.raises(ar.SkillInvalid, match="two skills"):
        SkillPrompter([TRAVEL, TRAVEL])


# Folders.

WRITTEN = """\
---
name: travel
description: >-
  Plans trips: where to go,
  --- and when.
license: MIT
---

# Travel

--- is no end of anything here
"""


def written(folder: Path, text: str | bytes, name: str = "travel") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "SKILL.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


@pytest.mark.parametrize("text", [WRITTEN, WRITTEN.replace("\n", "\r\n"), "\ufeff" + WRITTEN])
def test_a_folder_of_skills(tmp_path: Path, text: str) -> None:
    written(tmp_path, text)
    written(tmp_path, '---\nname: "dinner"\ndescription: "Finds: tables"\n---\nNever before eight.', "dinner")
    (tmp_path / "notes").mkdir()
    dinner, travel = load_skills(tmp_path, {"travel": [weather]})
    assert (dinner.name, dinner.description, dinner.instructions) == ("dinner", "Finds: tables", "Never before eight.")
    assert travel.description == "Plans trips: where to go, --- and when."
    assert travel.instructions == "# Travel\n\n--- is no end of anything here"
    assert names(SkillPrompter([dinner, travel]).tools(["travel"])) == ["weather", USE_SKILL]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# Travel", "must begin"),
        ("---\nname: travel\n", "must begin"),
        ("---\nname: [travel\n---\nGo.", "is not YAML"),
        ("---\n- travel\n---\nGo.", "missing"),
        ("---\n---\nGo.", "missing"),
        ("---\nname: other\ndescription: x\n---\nGo.", "name 'other' differs"),
        ("---\nname: travel\n---\nGo.", "needs a description"),
        ("---\nname: travel\ndescription: [x]\n---\nGo.", "needs a description"),
        ("---\nname: travel\ndescription: x\n---\n", "no instructions"),
        ("---\nname: travel\ndescription: !!python/object/apply:os.getcwd []\n---\nGo.", "is not YAML"),
        (b"---\nname: travel\ndescription: \xff\n---\nGo.", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_skill_is_named(tmp_path: Path, text: str | bytes, why: str) -> None:
    with pytest.raises(ar.SkillInvalid, match=f"SKILL.md: .*{why}"):
        load_skills(written(tmp_path, text))


def test_tools_for_no_skill_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ar.SkillInvalid, match=r"'dinner', but .* does not contain"):
        load_skills(written(tmp_path, WRITTEN), {"dinner": [book]})
