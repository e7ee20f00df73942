"""The project's own Python files, parsed: their imports, names and sizes."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "dags", "examples", "feature_repo", "jobs", "model", "tests")


@lru_cache
def modules() -> dict[str, Path]:
    """Return each module of the project by its dotted name."""
    result = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            result[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return result


@lru_cache
def tree(module: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imports(module: str, *, when_loaded: bool = False) -> Iterator[str]:
    """Yield what a module imports, by dotted name; `from a import b` gives `a.b` where that is a module.

    Parameters
    ----------
    when_loaded
        Leave out the imports within functions and those for type checking.
    """
    for node in _loaded(tree(module)) if when_loaded else ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules() else node.module


def _loaded(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _loaded(child)


def third_party(module: str, *, when_loaded: bool = False) -> set[str]:
    """Return the top-level modules of other projects that a module imports."""
    names = {name.partition(".")[0] for name in imports(module, when_loaded=when_loaded)}
    return names - set(FOLDERS) - sys.stdlib_module_names


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module, methods and inner ones too."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def bound_names(module: str) -> Iterator[tuple[str, int]]:
    """Yield each identifier that a module gives a meaning, with its line: variables, arguments, functions, classes."""
    for node in ast.walk(tree(module)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
