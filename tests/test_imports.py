"""The direction of imports, and what importing the package must not load."""

from __future__ import annotations

import ast
import functools
from graphlib import TopologicalSorter
import importlib
from pathlib import Path
import subprocess
import sys

import pytest

import optuna_llm


PACKAGE = Path(optuna_llm.__file__).parent
# The rooms of the house: each imports only from those above it in this list.
ROOMS = [
    {"_errors", "_images", "_logging", "_cancellation", "_lines", "_mistakes"},
    {"_quoting", "_processes", "_secrets", "_strays", "_watch"},
    {"_tunables"},
    {"_records"},
    {"_outcomes"},
    {"_study"},
    {"_settling", "models"},
    {"_text"},
    {"_failures"},
    {"_reply"},
    {"_prompt"},
    {"_proposing"},
    {"_page"},
    {"_console", "_fixing", "_sampler", "evaluate", "testing", "visualization"},
    {"callbacks", "dashboard"},
    {"cli", "integrations", "optimize"},
    {"__init__"},
]
RANKS = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def name_module(path: Path) -> str:
    """The dotted name of a file within the package; of a package that of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name_module(path): path for path in PACKAGE.rglob("*.py")}


@functools.cache
def find_imports(path: Path) -> set[str]:
    """The modules of this package that a file imports, for its annotations only too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        source, _, name = (node.module or "").partition("optuna_llm")
        if source or (name and not name.startswith(".")):
            continue
        name = name.removeprefix(".")
        inner = {f"{name}.{alias.name}".strip(".") for alias in node.names}
        found |= {name} - {""} if name and not inner & MODULES.keys() else inner & MODULES.keys()
    return found


def room_of(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_each_room_imports_only_from_rooms_below_it(module: str) -> None:
    own = room_of(module)
    others = {room_of(found) for found in find_imports(MODULES[module])} - {own}
    assert {room for room in others if RANKS[room] >= RANKS[own]} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    packages = {room_of(module) for module in MODULES if "." in module}
    # What a package re-exports in its __init__ is not what its modules build on.
    graph = {
        module: find_imports(path) - packages
        for module, path in MODULES.items()
        if module not in packages
    }
    assert list(TopologicalSorter(graph).static_order())


def test_modules_of_a_package_do_not_import_from_its_init() -> None:
    for module, path in MODULES.items():
        if "." in module:
            assert room_of(module) not in find_imports(path), module


@pytest.mark.parametrize(
    ("package", "users"),
    [
        (
            "openai",
            {
                "models._call",
                "models._connection",
                "models._endpoint",
                "models._litellm",
                "models._openai",
            },
        ),
        (
            "click",
            {"cli._main", "cli._opening", "cli._reading", "cli._running", "cli._steering"},
        ),
        (
            "dspy",
            {
                "integrations.dspy",
                "integrations.dspy._lm",
                "integrations.dspy._optimizer",
                "integrations.dspy._program",
                "integrations.dspy._scoring",
            },
        ),
        ("litellm", {"models._litellm"}),
        ("optuna_dashboard", {"dashboard._annotate", "dashboard._server"}),
        ("plotly", {"visualization._cases", "visualization._figures", "visualization._plots"}),
    ],
)
def test_what_is_slow_to_import_is_known_to_few(package: str, users: set[str]) -> None:
    statement = f"import {package}"
    assert {m for m, path in MODULES.items() if statement in path.read_text()} == users


def test_importing_the_package_loads_no_client_no_dashboard_and_nothing_that_asks() -> None:
    code = (
        "import sys, optuna_llm; print([m for m in sys.modules if 'optuna_llm._reply' in m]);"
        "optuna_llm.LLMSampler(model='offline');"
        "slow = ('click', 'dspy', 'openai', 'optuna_dashboard', 'plotly', 'rich');"
        "print([m for m in slow if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]", "[]"]


def test_an_integration_says_how_to_install_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.startswith("optuna_llm.integrations.dspy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dspy", None)
    with pytest.raises(ImportError, match=r'pip install "optuna-llm\[dspy\]"'):
        importlib.import_module("optuna_llm.integrations.dspy")
