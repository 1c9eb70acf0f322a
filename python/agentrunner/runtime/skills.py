"""Skills: named sets of instructions with their tools, in use or at hand."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentrunner.errors import SkillInvalid, ToolNameClash
from agentrunner.runtime.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_DESCRIPTION = 1024
USE_SKILL = "use_skill"
"""The tool by which a model takes a skill into use."""


@dataclass(frozen=True, slots=True)
class Skill:
    """What a model may be taught. Raises `SkillInvalid`."""

    name: str
    """Letters, digits, `-` and `_`, up to 64."""
    description: str
    """What it is for and when: by this a model chooses it, so it is a sentence or two, up to 1,024 characters."""
    instructions: str
    """What the system prompt says while the skill is in use, as Markdown."""
    tools: Sequence[Tool | Callable[..., Any]] = ()
    """Those the model has while the skill is in use."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise SkillInvalid(f"a skill's name is 1 to 64 letters, digits, '-' and '_', not {self.name!r}")
        if not isinstance(self.description, str) or not 0 < len(self.description.strip()) <= _MAX_DESCRIPTION:
            raise SkillInvalid(f"the skill '{self.name}' needs a description of 1 to {_MAX_DESCRIPTION} characters")
        if not isinstance(self.instructions, str) or not self.instructions.strip():
            raise SkillInvalid(f"the skill '{self.name}' has no instructions")


class SkillPrompter:
    """Puts skills into what a model is told: the instructions and tools of those in use, and a list of the others.

    The model takes a listed one into use by the tool `use_skill`. Raises `SkillInvalid` where two skills have the same
    name, `ToolNameClash` where two tools have; a tool may be several skills' if it is the same `Tool` or function.
    """

    def __init__(self, skills: Iterable[Skill]) -> None:
        self.skills: dict[str, Skill] = {}
        self._tools: dict[str, list[Tool]] = {}
        made: dict[int, Tool] = {}
        for skill in skills:
            if skill.name in self.skills:
                raise SkillInvalid(f"two skills are called '{skill.name}'")
            self.skills[skill.name] = skill
            self._tools[skill.name] = [made.setdefault(id(one), _tool(one)) for one in skill.tools]
        self._use_skill = _use_skill(list(self.skills)) if self.skills else None
        self.toolbox(())

    def toolbox(self, own: Iterable[Tool]) -> dict[str, Tool]:
        """Give a runtime's own tools and those of all skills by name: what may be run, whatever is in use.

        Raises `ToolNameClash`.
        """
        box: dict[str, Tool] = {}
        owners: dict[str, str] = {}
        every: list[tuple[str, Tool]] = [("the runtime", tool) for tool in own]
        if self._use_skill is not None:
            every.append(("the runtime", self._use_skill))
        every += [(f"the skill '{name}'", tool) for name, tools in self._tools.items() for tool in tools]
        for owner, tool in every:
            if box.setdefault(tool.name, tool) is not tool:
                raise ToolNameClash(tool.name, owners[tool.name], owner)
            owners.setdefault(tool.name, owner)
        return box

    def active(self, names: Iterable[str] | None, messages: Iterable[Mapping[str, Any]] = ()) -> list[str]:
        """Give the names of the skills in use: the given ones, `None` all, and those the model has taken into use.

        Names of skills that are no more are left out.
        """
        if names is None:
            return list(self.skills)
        wanted = set(names)
        calls: dict[str, str] = {}
        for message in messages:
            for call in message.get("toolCalls") or ():
                if call["function"]["name"] == USE_SKILL:
                    calls[call["id"]] = call["function"]["arguments"]
            if message.get("role") == "tool" and message.get("toolCallId") in calls and not message.get("error"):
                wanted.add(_named(calls[message["toolCallId"]]))
        return [name for name in self.skills if name in wanted]

    def tools(self, active: Iterable[str]) -> list[Tool]:
        """Give the tools of the skills in use, each once, and `use_skill` where others are not in use."""
        used = set(active)
        tools = {tool.name: tool for name, given in self._tools.items() if name in used for tool in given}
        if self._use_skill is not None and used < self.skills.keys():
            tools[USE_SKILL] = self._use_skill
        return list(tools.values())

    def prompt(self, active: Iterable[str]) -> str:
        """Give what the system prompt says of the skills; empty where there are none."""
        used = set(active)
        parts = [
            f"# Skill: {skill.name}\n\n{skill.instructions.strip()}"
            for skill in self.skills.values()
            if skill.name in used
        ]
        others = [skill for skill in self.skills.values() if skill.name not in used]
        if others:
            listed = "\n".join(f"- {skill.name}: {' '.join(skill.description.split())}" for skill in others)
            parts.append(
                f"# Other skills\n\nBefore a task that one of these is for, call the tool `{USE_SKILL}` with its name; "
                f"you then have its instructions and its tools.\n\n{listed}"
            )
        return "\n\n".join(parts)


def load_skills(
    folder: str | Path, tools: Mapping[str, Sequence[Tool | Callable[..., Any]]] | None = None
) -> list[Skill]:
    """Read the skills of a folder, as agentskills.io has them: each a folder with a `SKILL.md`, called as the skill.

    That file is YAML between two lines of `---`, in which there are `name` and `description`, and the instructions
    below. `tools` are those of the skills by their names. Raises `SkillInvalid`, which names the file, `OSError`, and
    `ImportError` where PyYAML is missing.
    """
    given = dict(tools or {})
    skills = [_read(file, given.pop(file.parent.name, ())) for file in sorted(Path(folder).glob("*/SKILL.md"))]
    if given:
        raise SkillInvalid(f"there are tools for the skill '{min(given)}', which is not in {folder}")
    return skills


def _read(file: Path, tools: Sequence[Tool | Callable[..., Any]]) -> Skill:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("reading SKILL.md needs PyYAML: pip install 'agentrunner[skills]'") from error
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillInvalid(f"{file}: not UTF-8") from error
    found = re.match(r"---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise SkillInvalid(f"{file}: it does not begin with YAML between two lines of ---")
    try:
        said = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise SkillInvalid(f"{file}: no YAML: {error}") from error
    if not isinstance(said, dict):
        raise SkillInvalid(f"{file}: name and description are missing")
    if said.get("name") != file.parent.name:
        raise SkillInvalid(f"{file}: the skill is called {said.get('name')!r}, its folder '{file.parent.name}'")
    try:
        return Skill(said["name"], said.get("description") or "", text[found.end() :].strip(), tuple(tools))
    except SkillInvalid as error:
        raise SkillInvalid(f"{file}: {error}") from None


def _tool(given: Tool | Callable[..., Any]) -> Tool:
    return given if isinstance(given, Tool) else Tool(given)


def _use_skill(names: Sequence[str]) -> Tool:
    def use_skill(name: str) -> str:
        """Take a skill into use."""
        return f"The skill '{name}' is in use. Its instructions are in the system prompt."

    # So that the model is told which there are, and one it makes up is refused.
    use_skill.__annotations__["name"] = Literal[tuple(names)]
    return Tool(use_skill, name=USE_SKILL, concurrent=True, idempotent=True)


def _named(arguments: str) -> str:
    try:
        return str(json.loads(arguments)["name"])
    except (ValueError, TypeError, KeyError):
        return ""
