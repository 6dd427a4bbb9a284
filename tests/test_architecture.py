"""The budgets and rules of the house, held by tests: sizes, broad excepts, names, deferred imports."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MODULE_LINES, CLASS_LINES, FUNCTION_LINES = 500, 300, 60
HEAVY = ("polars", "textual", "openai", "torch", "transformers", "tiktoken", "starlette")


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def lines(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_outgrows_its_limit(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


def test_no_class_or_function_outgrows_its_limit() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} ({lines(node)})"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if (isinstance(node, ast.ClassDef) and lines(node) > CLASS_LINES)
        or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines(node) > FUNCTION_LINES)
    ]
    assert not too_long


def test_only_three_doors_catch_everything() -> None:
    """The command line, the app's worker wrapper and the trainer's entry."""
    broad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        )
    ]
    assert len(broad) <= 3, broad


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [
        path
        for path in SOURCES
        if path.stem in ("utils", "util", "helpers", "helper", "common", "manager", "misc")
    ]


def loaded_by(code: str) -> list[str]:
    """Return which heavy packages a fresh interpreter has loaded after `code`."""
    listing = f"{code}\nimport sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=60
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by("from tunedesk.cli import main; assert main(['--help']) == 0") == []


def test_the_core_loads_no_front_end_and_no_network() -> None:
    modules = [path.relative_to(ROOT / "src") for path in (ROOT / "src/tunedesk/core").rglob("*.py")]
    imports = "; ".join(f"import {'.'.join(module.with_suffix('').parts)}" for module in modules)
    assert not {"textual", "openai", "torch", "starlette"} & set(loaded_by(imports))


def test_the_app_module_loads_neither_polars_nor_openai() -> None:
    assert not {"polars", "openai", "torch", "tiktoken"} & set(loaded_by("import tunedesk.tui.app"))
