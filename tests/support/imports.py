"""The package's imports as a graph: its circles, and the imports that point up."""

from __future__ import annotations

import ast
from pathlib import Path

LAYERS = (
    (
        "types",
        "errors",
        "events",
        "agents",
        "_checks",
        "_codec",
        "_plain",
        "_protocol",
        "_core",
        "_failures",
        "_generators",
        "_logging",
        "_counts",
        "_text",
    ),
    ("stores", "records"),
    ("reading", "running"),
    ("runner", "runners", "threads", "agentrunner", "testing"),
    ("harness", "runtime"),
    ("server",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""The parts of the package from the ground floor up; `agentrunner` is its `__init__`."""


class Imports:
    """Which module of the package imports which, also for annotations and inside functions."""

    def __init__(self, source: Path) -> None:
        self._trees = {}
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self._trees[name] = (ast.parse(path.read_text(encoding="utf-8")), parts[-1] == "__init__")
        self._trees[f"{source.name}._core"] = (ast.parse(""), False)  # the compiled core
        self._reexports = {name: self._bindings(name) for name, (_, is_package) in self._trees.items() if is_package}
        self.graph = {name: self._targets(name) for name in self._trees}

    def _bindings(self, package: str) -> dict[str, tuple[str, str]]:
        tree, _ = self._trees[package]
        return {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def _targets(self, name: str) -> dict[str, int]:
        tree, is_package = self._trees[name]
        package = name if is_package else name.rpartition(".")[0]
        targets: dict[str, int] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name in self._trees:
                        targets.setdefault(alias.name, node.lineno)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    target = self._origin(node.module or "", alias.name, package)
                    if target is not None and target != name:
                        targets.setdefault(target, node.lineno)
        return targets

    def _origin(self, module: str, name: str, package: str) -> str | None:
        """Return the module that defines a name, looking through other packages' `__init__`."""
        if f"{module}.{name}" in self._trees:
            return f"{module}.{name}"
        if module not in self._trees:
            return None
        # A module's own package is not looked through: importing it there is a circle when the module is loaded.
        if module != package and name in self._reexports.get(module, {}):
            return self._origin(*self._reexports[module][name], package) or module
        return module

    def circles(self) -> list[list[str]]:
        """Return the groups of modules that import each other."""
        return [sorted(group) for group in _strong_components(self.graph) if len(group) > 1]

    def part_circles(self) -> list[list[str]]:
        """Return the groups of parts (`stores`, `running`, …) that import each other."""
        parts: dict[str, dict[str, int]] = {}
        for name, targets in self.graph.items():
            for target in targets:
                if part_of(name) != part_of(target):
                    parts.setdefault(part_of(name), {})[part_of(target)] = 0
                    parts.setdefault(part_of(target), {})
        return [sorted(group) for group in _strong_components(parts) if len(group) > 1]

    def upward(self) -> list[str]:
        """Return each import of a higher layer by a lower one, as a line."""
        rank = {part: index for index, layer in enumerate(LAYERS) for part in layer}
        lines = []
        for name, targets in self.graph.items():
            if part_of(name) not in rank:
                lines.append(f"{name}: its part {part_of(name)!r} is in no layer")
                continue
            lines += [
                f"{name}:{line} imports {target}"
                for target, line in targets.items()
                if name != "agentrunner" and rank.get(part_of(target), -1) > rank[part_of(name)]
            ]
        return lines


def part_of(module: str) -> str:
    """Return the first name under the package: `stores` for `agentrunner.stores.redis.client`."""
    return module.split(".")[1] if "." in module else "agentrunner"


def _strong_components(graph: dict[str, dict[str, int]]) -> list[list[str]]:
    """Return the strongly connected components (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = []
            while node not in component:
                component.append(stack.pop())
            components.append(component)

    for node in graph:
        if node not in index:
            visit(node)
    return components
