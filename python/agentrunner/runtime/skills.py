"""Skills: named instructions with their tools, active or listed for the model to activate."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentrunner.errors import SkillInvalid, ToolNameClash
from agentrunner.runtime.tools import Tool, make_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_DESCRIPTION_CHARACTERS = 1024
USE_SKILL = "use_skill"
"""Name of the tool with which a model activates a skill."""


@dataclass(frozen=True, slots=True)
class Skill:
    """Instructions and tools that a model has while the skill is active.

    Raises:
        SkillInvalid: If the name, the description or the instructions are missing or not valid.

    Example:
        Skill("travel", "For questions about trips.", "Always ask for the date first.", tools=[weather])
    """

    name: str
    """Up to 64 letters, digits, `-` and `_`."""
    description: str
    """One or two sentences, up to 1,024 characters, that tell the model when to activate the skill."""
    instructions: str
    """Markdown text that the system prompt contains while the skill is active."""
    tools: Sequence[Tool | Callable[..., Any]] = ()
    """Tools the model has while the skill is active."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise SkillInvalid(f"a skill's name must be 1 to 64 letters, digits, '-' and '_', not {self.name!r}")
        if (
            not isinstance(self.description, str)
            or not 0 < len(self.description.strip()) <= _MAX_DESCRIPTION_CHARACTERS
        ):
            raise SkillInvalid(
                f"the skill '{self.name}' needs a description of 1 to {_MAX_DESCRIPTION_CHARACTERS} characters"
            )
        if not isinstance(self.instructions, str) or not self.instructions.strip():
            raise SkillInvalid(f"the skill '{self.name}' has no instructions")


class SkillPrompter:
    """Adds the active skills' instructions and tools to model requests.

    The other skills are listed, and the model activates a listed skill with the tool `use_skill`. Raises `SkillInvalid`
    if two skills have the same name, and `ToolNameClash` if two tools have. Skills may share a tool if it is the same
    `Tool` or function.
    """

    def __init__(self, skills: Iterable[Skill]) -> None:
        self.skills: dict[str, Skill] = {}
        self._tools: dict[str, list[Tool]] = {}
        shared: dict[int, Tool] = {}
        for skill in skills:
            if skill.name in self.skills:
                raise SkillInvalid(f"two skills are named '{skill.name}'")
            self.skills[skill.name] = skill
            self._tools[skill.name] = [shared.setdefault(id(function), make_tool(function)) for function in skill.tools]
        self._use_skill = _make_use_skill(list(self.skills)) if self.skills else None
        self.toolbox(())

    def toolbox(self, own: Iterable[Tool]) -> dict[str, Tool]:
        """Return the runtime's own tools and those of all skills, active or not, by name.

        Raises `ToolNameClash`.
        """
        by_name: dict[str, Tool] = {}
        owners: dict[str, str] = {}
        owned: list[tuple[str, Tool]] = [("the runtime", tool) for tool in own]
        if self._use_skill is not None:
            owned.append(("the runtime", self._use_skill))
        owned += [(f"the skill '{name}'", tool) for name, tools in self._tools.items() for tool in tools]
        for owner, tool in owned:
            if by_name.setdefault(tool.name, tool) is not tool:
                raise ToolNameClash(tool.name, owners[tool.name], owner)
            owners.setdefault(tool.name, owner)
        return by_name

    def find_active(self, names: Iterable[str] | None, messages: Iterable[Mapping[str, Any]] = ()) -> list[str]:
        """Return the names of the active skills.

        These are `names` (`None`: all) and the skills that the model has activated in `messages`. Names of skills that
        no longer exist are skipped.
        """
        if names is None:
            return list(self.skills)
        active = set(names)
        activations: dict[str, str] = {}
        for message in messages:
            for call in message.get("toolCalls") or ():
                if call["function"]["name"] == USE_SKILL:
                    activations[call["id"]] = call["function"]["arguments"]
            if message.get("role") == "tool" and message.get("toolCallId") in activations and not message.get("error"):
                active.add(_read_skill_name(activations[message["toolCallId"]]))
        return [name for name in self.skills if name in active]

    active = find_active
    """The name of `find_active` in version 0.1.0."""

    def tools(self, active: Iterable[str]) -> list[Tool]:
        """Return the active skills' tools, each once, and `use_skill` if some skill is not active."""
        active_names = set(active)
        tools = {tool.name: tool for name, own in self._tools.items() if name in active_names for tool in own}
        if self._use_skill is not None and active_names < self.skills.keys():
            tools[USE_SKILL] = self._use_skill
        return list(tools.values())

    def prompt(self, active: Iterable[str]) -> str:
        """Return the system prompt's text about skills; empty if there are no skills."""
        active_names = set(active)
        parts = [
            f"# Skill: {skill.name}\n\n{skill.instructions.strip()}"
            for skill in self.skills.values()
            if skill.name in active_names
        ]
        others = [skill for skill in self.skills.values() if skill.name not in active_names]
        if others:
            lines = "\n".join(f"- {skill.name}: {' '.join(skill.description.split())}" for skill in others)
            parts.append(
                f"# Other skills\n\nBefore a task that one of these covers, call the tool `{USE_SKILL}` with its name; "
                f"you then have its instructions and its tools.\n\n{lines}"
            )
        return "\n\n".join(parts)


def load_skills(
    folder: str | Path, tools: Mapping[str, Sequence[Tool | Callable[..., Any]]] | None = None
) -> list[Skill]:
    """Read the skills of a folder that is laid out as agentskills.io describes.

    Each skill is a folder with the skill's name that contains a `SKILL.md`. That file begins with YAML between two
    lines of `---`, which has `name` and `description`; the instructions follow.

    Args:
        folder: The folder that contains the skills' folders.
        tools: The skills' tools by the skills' names.

    Returns:
        The skills in the order of their names.

    Raises:
        SkillInvalid: If a `SKILL.md` is not valid, or `tools` names a skill that is not in the folder.
        OSError: If a file cannot be read.
        ImportError: If PyYAML is not installed.

    Example:
        agent = AgentRuntime(llm, skills=load_skills("skills", {"travel": [weather]}))
    """
    remaining = dict(tools or {})
    skills = [
        _read_skill(file, remaining.pop(file.parent.name, ())) for file in sorted(Path(folder).glob("*/SKILL.md"))
    ]
    if remaining:
        raise SkillInvalid(
            f"tools has the skill '{min(remaining)}', but {folder} does not contain a skill of that name"
        )
    return skills


def _read_skill(file: Path, tools: Sequence[Tool | Callable[..., Any]]) -> Skill:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("load_skills needs PyYAML: pip install 'agentrunner[skills]'") from error
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillInvalid(f"{file}: the file is not UTF-8") from error
    header = re.match(r"---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if header is None:
        raise SkillInvalid(f"{file}: the file must begin with YAML between two lines of ---")
    try:
        fields = yaml.safe_load(header[1])
    except yaml.YAMLError as error:
        raise SkillInvalid(f"{file}: the text between the two lines of --- is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise SkillInvalid(f"{file}: name and description are missing")
    if fields.get("name") != file.parent.name:
        raise SkillInvalid(
            f"{file}: the name {fields.get('name')!r} differs from that of the folder, '{file.parent.name}'"
        )
    try:
        return Skill(fields["name"], fields.get("description") or "", text[header.end() :].strip(), tuple(tools))
    except SkillInvalid as error:
        raise SkillInvalid(f"{file}: {error}") from None


def _make_use_skill(names: Sequence[str]) -> Tool:
    def use_skill(name: str) -> str:
        """Start using a skill."""
        return f"The skill '{name}' is in use. Its instructions are in the system prompt."

    # The type lists the skills' names in the tool's schema, and refuses a name that the model made up.
    use_skill.__annotations__["name"] = Literal[tuple(names)]
    return Tool(use_skill, name=USE_SKILL, concurrent=True, idempotent=True)


def _read_skill_name(arguments: str) -> str:
    try:
        return str(json.loads(arguments)["name"])
    except (ValueError, TypeError, KeyError):
        return ""
