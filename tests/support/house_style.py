"""The house style's rules that a program can check, over the files of this repository."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RULES = (
    "class-name",
    "conftest-import",
    "constant-name",
    "field-words",
    "file-length",
    "function-participle",
    "local-name",
    "summary-length",
    "summary-stop",
    "summary-verb",
    "underscore",
    "words",
)
SUMMARY_COLUMNS = 88
FILE_LINES = 400
FIELD_WORDS = 3
CODE_SUFFIXES = {".py", ".pyi", ".rs", ".lua", ".sql", ".mjs", ".ts", ".tsx", ".css", ".html"}
VERBS = re.compile(r"(Give|Gives|Say|Says|Have|Let|Lets)\b")
WORDS = re.compile(
    r"\b(whoever|somebody|nobody|someone|(of )?one's own|ails|dribbles?|goes on with|so that it stands)\b",
    re.IGNORECASE,
)
PARTICIPLES = re.compile(
    r"_?([a-z]+[^e]ed|known|given|made|kept|said|shown|held|found|gone|seen|taken|written|caught_up)"
)
PUBLIC_PARTICIPLES = {"changed", "folded", "opened"}
"""Methods of `Store`, `Threads` and `AgentRunner` that users have called since 0.1.0."""
LOCAL_NAMES = {"found", "given", "said", "made", "asked"}
NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_make", "_exit", "_current_frames"}


class Violation(NamedTuple):
    """One place that breaks a rule."""

    rule: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def tracked_files(root: Path) -> list[Path]:
    """Return the files git knows, new ones included, that still exist."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    return [root / name for name in listed if (root / name).is_file()]


def check_file(path: Path, root: Path) -> list[Violation]:
    """Return what one file breaks of the rules that need no other file."""
    name = path.relative_to(root).as_posix()
    if path.suffix not in CODE_SUFFIXES:
        return []
    text = path.read_text(encoding="utf-8")
    broken = []
    if (lines := text.count("\n")) > FILE_LINES:
        broken.append(Violation("file-length", name, 1, f"{lines} lines"))
    if path.suffix == ".rs":
        broken += _check_rust(name, text)
    if path.suffix == ".py":
        tree = ast.parse(text)
        broken += _check_docstrings(name, tree)
        broken += _check_names(name, tree)
        broken += _check_words(name, text, tree)
        if name.startswith("python/"):
            broken += _check_underscores(name, tree)
        if name.startswith("tests/"):
            broken += _check_conftest(name, tree)
    return broken


def _check_docstrings(name: str, tree: ast.Module) -> Iterator[Violation]:
    for docstring, is_field in docstrings(tree):
        summary = docstring.value.lstrip("\n").split("\n", 1)[0].strip()
        if VERBS.match(summary):
            yield Violation("summary-verb", name, docstring.lineno, summary)
        if not summary.endswith("."):
            yield Violation("summary-stop", name, docstring.lineno, summary)
        if len(summary) > SUMMARY_COLUMNS and not is_field:
            yield Violation("summary-length", name, docstring.lineno, f"{len(summary)} columns: {summary}")
        if is_field and len(docstring.value.split()) < FIELD_WORDS:
            yield Violation("field-words", name, docstring.lineno, summary)


class _Docstring(NamedTuple):
    """Text and line of a docstring."""

    value: str
    lineno: int


def docstrings(tree: ast.Module) -> Iterator[tuple[_Docstring, bool]]:
    """Iterate over a module's docstrings, each with whether it describes a field or constant."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        previous: ast.AST = node
        for statement in node.body:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))) if previous is node:
                    yield _Docstring(text, statement.lineno), False
                case ast.Expr(value=ast.Constant(value=str(text))) if isinstance(previous, (ast.Assign, ast.AnnAssign)):
                    yield _Docstring(text, statement.lineno), True
            previous = statement


def _check_names(name: str, tree: ast.Module) -> Iterator[Violation]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            is_property = any(
                word in ast.unparse(decorator) for word in ("property", "fixture") for decorator in node.decorator_list
            )
            if not is_property and node.name not in PUBLIC_PARTICIPLES and PARTICIPLES.fullmatch(node.name):
                yield Violation("function-participle", name, node.lineno, node.name)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in LOCAL_NAMES:
            yield Violation("local-name", name, node.lineno, node.id)
        if isinstance(node, ast.arg) and node.arg in LOCAL_NAMES:
            yield Violation("local-name", name, node.lineno, node.arg)


def _check_words(name: str, text: str, tree: ast.Module) -> Iterator[Violation]:
    for docstring, _ in docstrings(tree):
        for match in WORDS.finditer(docstring.value):
            yield Violation("words", name, docstring.lineno, match.group())
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            for match in WORDS.finditer(token.string):
                yield Violation("words", name, token.start[0], match.group())


def _check_rust(name: str, text: str) -> Iterator[Violation]:
    previous = ""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith(("///", "//!")):
            words = stripped[3:].strip()
            if not previous.startswith(stripped[:3]) and VERBS.match(words):
                yield Violation("summary-verb", name, number, words)
        if stripped.startswith("//"):
            for match in WORDS.finditer(stripped):
                yield Violation("words", name, number, match.group())
        previous = stripped


def _check_conftest(name: str, tree: ast.Module) -> Iterator[Violation]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[-1] == "conftest":
            yield Violation("conftest-import", name, node.lineno, ast.unparse(node))


def _check_underscores(name: str, tree: ast.Module) -> Iterator[Violation]:
    own = _own_underscores(tree)
    package = name.removeprefix("python/").rsplit("/", 1)[0].replace("/", ".")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agentrunner"):
            for alias in node.names:
                if _is_private(alias.name) and not (node.module == package or f"{node.module}.{alias.name}" in PRIVATE):
                    yield Violation("underscore", name, node.lineno, ast.unparse(node))
            parts = (node.module or "").split(".")
            for index, part in enumerate(parts):
                parent = ".".join(parts[:index])
                if _is_private(part) and not (package == parent or package.startswith(f"{parent}.")):
                    yield Violation("underscore", name, node.lineno, ast.unparse(node))
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in NAMED_TUPLE:
            is_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not is_self and node.attr not in own and ast.unparse(node.value) != "super()":
                yield Violation("underscore", name, node.lineno, ast.unparse(node))


PRIVATE = {"agentrunner._core", "agentrunner._codec"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _own_underscores(tree: ast.Module) -> set[str]:
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                own.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            own.add(node.value)  # a name in `__slots__`
    return own


def find_violations(root: Path) -> list[Violation]:
    """Return every violation of the rules in a repository."""
    paths = tracked_files(root)
    by_file = [violation for path in paths for violation in check_file(path, root)]
    return [*by_file, *duplicate_classes(root, paths), *duplicate_constants(root, paths)]


def duplicate_classes(root: Path, paths: Iterable[Path]) -> list[Violation]:
    """Return each class whose name a class of another module of the package has too."""
    return _duplicates("class-name", root, paths, lambda node: node.name if isinstance(node, ast.ClassDef) else None)


def duplicate_constants(root: Path, paths: Iterable[Path]) -> list[Violation]:
    """Return each number whose name stands for another number in another module."""
    values: dict[str, set[str]] = defaultdict(set)

    def number_name(node: ast.stmt) -> str | None:
        if not isinstance(node, ast.Assign) or not isinstance(target := node.targets[0], ast.Name):
            return None
        parts = [part for part in ast.walk(node.value) if not isinstance(part, (ast.operator, ast.unaryop))]
        numbers = [part for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, (int, float))]
        if not numbers or not all(isinstance(part, (ast.BinOp, ast.UnaryOp, ast.Constant)) for part in parts):
            return None
        values[target.id].add(ast.unparse(node.value))
        return target.id

    duplicates = _duplicates("constant-name", root, paths, number_name)
    return [violation for violation in duplicates if len(values[violation.text.split(" ", 1)[0]]) > 1]


def _duplicates(
    rule: str, root: Path, paths: Iterable[Path], name_of: Callable[[ast.stmt], str | None]
) -> list[Violation]:
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for path in paths:
        file = path.relative_to(root).as_posix()
        if file.startswith("python/agentrunner/") and path.suffix == ".py":
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if (name := name_of(node)) is not None:
                    places[name].append((file, node.lineno))
    return [
        Violation(rule, file, line, f"{name} is also in {', '.join(other for other, _ in uses if other != file)}")
        for name, uses in places.items()
        if len(uses) > 1
        for file, line in uses
    ]
