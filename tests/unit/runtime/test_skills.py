"""Skills: the prompt for active and other skills, their tools, and `SKILL.md` folders."""

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


def tool_names(tools: list[Tool]) -> list[str]:
    return [tool.name for tool in tools]


def activate(name: str, key: str = "c1", **result: Any) -> list[dict[str, Any]]:
    """Return the messages of a call of `use_skill`, which failed if `result` has an `error`."""
    call = {"id": key, "type": "function", "function": {"name": USE_SKILL, "arguments": f'{{"name": "{name}"}}'}}
    return [
        {"id": "m1", "role": "assistant", "toolCalls": [call]},
        {"id": "m2", "role": "tool", "toolCallId": key, "content": "ok", **result},
    ]


def test_the_prompt_has_active_skills_and_lists_the_others() -> None:
    prompter = SkillPrompter([TRAVEL, DINNER])
    prompt = prompter.prompt(["travel"])
    assert "# Skill: travel\n\nAsk for the month first." in prompt
    assert "- dinner: Finds restaurants." in prompt
    assert "Never before eight." not in prompt
    assert tool_names(prompter.tools(["travel"])) == ["weather", USE_SKILL]


def test_nothing_is_listed_if_all_skills_are_active() -> None:
    prompter = SkillPrompter([TRAVEL, DINNER])
    everything = prompter.find_active(None)
    assert everything == ["travel", "dinner"]
    assert tool_names(prompter.tools(everything)) == ["weather", "book"]
    assert USE_SKILL not in prompter.prompt(everything)
    assert "Never before eight." in prompter.prompt(everything)


def test_each_listed_skill_has_one_line() -> None:
    prompt = SkillPrompter([TRAVEL, DINNER]).prompt([])
    assert prompt.endswith("- travel: Plans trips. Use it for journeys.\n- dinner: Finds restaurants.")


def test_without_skills_the_prompt_is_empty() -> None:
    prompter = SkillPrompter([])
    assert (prompter.prompt([]), prompter.tools([]), prompter.toolbox(()), prompter.find_active(None)) == (
        "",
        [],
        {},
        [],
    )


def test_a_skill_that_the_model_activates_stays_active() -> None:
    prompter = SkillPrompter([TRAVEL, DINNER])
    assert prompter.find_active(["travel"], activate("dinner")) == ["travel", "dinner"]
    assert prompter.find_active([], activate("dinner", error="denied")) == []
    assert prompter.find_active([], activate("dinner")[:1]) == [], "the call has no result"
    assert prompter.find_active(["gone"], activate("cooking")) == [], "neither skill exists"
    invalid = activate("dinner")
    invalid[0]["toolCalls"][0]["function"]["arguments"] = "{"
    assert prompter.find_active([], invalid) == []


async def test_use_skill_accepts_only_existing_skills() -> None:
    tool = SkillPrompter([TRAVEL, DINNER]).toolbox(())[USE_SKILL]
    assert tool.spec.parameters["properties"]["name"]["enum"] == ["travel", "dinner"]
    with pytest.raises(InvalidArguments):
        tool.validate('{"name": "cooking"}')
    assert "'dinner' is in use" in (await tool.call(tool.validate('{"name": "dinner"}'), None)).content  # type: ignore[arg-type]


def test_the_toolbox_has_the_tools_of_all_skills() -> None:
    own = Tool(lambda: "now", name="now")
    toolbox = SkillPrompter([TRAVEL, DINNER]).toolbox([own])
    assert sorted(toolbox) == ["book", "now", USE_SKILL, "weather"]
    assert toolbox["now"] is own


def test_two_tools_of_one_name_are_refused() -> None:
    def other(city: str) -> str:
        return city

    clash = Skill("walk", "Walks.", "Slowly.", [Tool(other, name="weather")])
    with pytest.raises(
        ar.ToolNameClash, match="skill 'travel' and one of the skill 'walk' are both called 'weather'"
    ) as raised:
        SkillPrompter([TRAVEL, clash])
    assert raised.value.name == "weather"
    with pytest.raises(ar.ToolNameClash, match="a tool of the runtime and one of the skill 'travel'"):
        SkillPrompter([TRAVEL]).toolbox([Tool(other, name="weather")])
    with pytest.raises(ar.ToolNameClash, match=USE_SKILL):
        SkillPrompter([Skill("walk", "Walks.", "Slowly.", [Tool(other, name=USE_SKILL)])])


@pytest.mark.parametrize(
    ("name", "description", "instructions"),
    [("", "x", "x"), ("a b", "x", "x"), ("a" * 65, "x", "x"), ("a", " ", "x"), ("a", "x" * 1025, "x"), ("a", "x", "")],
)
def test_a_skill_with_missing_or_invalid_fields_is_refused(name: str, description: str, instructions: str) -> None:
    with pytest.raises(ar.SkillInvalid):
        Skill(name, description, instructions)
    with pytest.raises(ar.SkillInvalid, match="two skills"):
        SkillPrompter([TRAVEL, TRAVEL])


# Folders

SKILL_FILE = """\
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


def write_skill(folder: Path, text: str | bytes, name: str = "travel") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "SKILL.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


@pytest.mark.parametrize("text", [SKILL_FILE, SKILL_FILE.replace("\n", "\r\n"), "\ufeff" + SKILL_FILE])
def test_skills_are_loaded_from_a_folder(tmp_path: Path, text: str) -> None:
    write_skill(tmp_path, text)
    write_skill(tmp_path, '---\nname: "dinner"\ndescription: "Finds: tables"\n---\nNever before eight.', "dinner")
    (tmp_path / "notes").mkdir()
    dinner, travel = load_skills(tmp_path, {"travel": [weather]})
    assert (dinner.name, dinner.description, dinner.instructions) == ("dinner", "Finds: tables", "Never before eight.")
    assert travel.description == "Plans trips: where to go, --- and when."
    assert travel.instructions == "# Travel\n\n--- is no end of anything here"
    assert tool_names(SkillPrompter([dinner, travel]).tools(["travel"])) == ["weather", USE_SKILL]


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_an_invalid_skill_file_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ar.SkillInvalid, match=f"SKILL.md: .*{message}"):
        load_skills(write_skill(tmp_path, text))


def test_tools_for_a_missing_skill_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ar.SkillInvalid, match=r"'dinner', but .* does not contain"):
        load_skills(write_skill(tmp_path, SKILL_FILE), {"dinner": [book]})
