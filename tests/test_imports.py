"""The direction of imports, and what importing the package must not load."""

from __future__ import annotations

import ast
from pathlib import Path
import subprocess
import sys

import pytest

import optuna_llm


PACKAGE = Path(optuna_llm.__file__).parent
# Each imports only from those above it.
ORDER = [
    "_errors",
    "_logging",
    "_server",
    "_pace",
    "_cancellation",
    "_records",
    "_exchanges",
    "_numbers",
    "_attributes",
    "_backlog",
    "_text",
    "_usage",
    "_history",
    "_progress",
    "_choice",
    "_aim",
    "_transcript",
    "_quoting",
    "_markdown",
    "_edits",
    "_blocks",
    "_notes",
    "_system",
    "_prompt",
    "_tags",
    "_reply",
    "_pool",
    "_view",
    "models",
    "_asker",
    "_sampler",
    "testing",
    "callbacks",
    "optimize",
    "evaluate",
    "visualization",
    "dashboard",
    "__init__",
]


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> set[str]:
    """The modules of this package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "optuna_llm":
            found |= {f"optuna_llm.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna_llm."):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_each_module_imports_only_from_those_above_it(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    own = ORDER.index(parts[0])
    for module in imported(path):
        assert ORDER.index(layer(module)) < own or layer(module) == parts[0] in (
            "models",
            "evaluate",
            "visualization",
            "dashboard",
        )


@pytest.mark.parametrize(
    ("package", "users"),
    [
        ("openai", {"_line", "_openai"}),
        ("optuna_dashboard", {"dashboard"}),
        ("plotly", {"visualization"}),
    ],
)
def test_what_is_slow_to_import_is_known_to_few(package: str, users: set[str]) -> None:
    statement = f"import {package}"
    assert {p.stem for p in PACKAGE.rglob("*.py") if statement in p.read_text()} == users


def test_importing_the_package_loads_neither_client_nor_dashboard() -> None:
    code = (
        "import sys, optuna_llm; optuna_llm.LLMSampler(model='offline');"
        "print([m for m in ('openai', 'optuna_dashboard', 'plotly', 'rich') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
