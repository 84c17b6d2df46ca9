"""The README and docs/: code runs, links lead somewhere, and the files named there exist."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

import optuna
from pages import find_runnable
from pages import PAGES
from pages import ROOT
from pages import run_page
import pytest

import optuna_llm


README = PAGES["README.md"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
_PATH = re.compile(r"`([\w./-]+\.(?:py|md|toml)|[\w.-]+/)`")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "README.md" else pytest.mark.slow)
        for name, page in PAGES.items()
        if find_runnable(page)
    ],
)
def test_the_code_of_a_page_runs_from_top_to_bottom(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(name)


LOOP = """\
def pack(items, look_back):
    boxes = []
    for item in {items}:
        for box in boxes:
            if sum(box) + item <= {full}:
                box.append(item)
                break
        else:
            boxes.append([item])
    return boxes
"""
"""First fit, which is right if it packs all items into boxes of 100."""


def rate_by_readme(code: str) -> float:
    """What the first example's objective says of a program."""
    (example,) = find_runnable(README)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(example.partition("\ntask = ")[0], names)
    value: float = names["objective"](optuna.trial.FixedTrial({"look_back": 1, "code": code}))
    return value


def test_the_first_example_prefers_the_better_of_two_right_programs() -> None:
    first_fit = rate_by_readme(LOOP.format(items="items", full=100))
    decreasing = rate_by_readme(LOOP.format(items="sorted(items)[::-1]", full=100))
    assert decreasing < first_fit < rate_by_readme(LOOP.format(items="items", full=80))


@pytest.mark.parametrize(
    "code",
    [
        LOOP.format(items="items", full=101),
        LOOP.format(items="items[1:]", full=100),
        LOOP.format(items="[item - 1 for item in items]", full=100),
        "def pack(items, look_back):\n    return True",
        "def pack(items, look_back):\n    return []",
        "def pack(items, look_back):\n    return [items]",
        "def pack(items, look_back):\n    items.clear()\n    return [[]]",
        "def pack(items, look_back):\n    raise SystemExit(0)",
        "packed = []",
    ],
)
def test_the_first_example_fails_a_wrong_program(code: str) -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        rate_by_readme(code)


def test_a_block_is_called_python_if_it_is() -> None:
    labels = {label for page in PAGES.values() for label, _ in _FENCE.findall(page)}
    assert labels == {"", "mermaid", "python", "sh"}


@pytest.mark.parametrize("command", ["try", "test"])
def test_the_commands_that_ci_runs_are_there(command: str) -> None:
    assert f"<!-- command: {command} -->\n```sh\n" in README


def make_anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    broken = []
    for target, anchor in _LINK.findall(PAGES[name]):
        path = (ROOT / name).parent / target if target else ROOT / name
        found = str(path.resolve().relative_to(ROOT))
        if not path.exists():
            broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", PAGES[found], re.MULTILINE)
            broken += [anchor] * (anchor not in map(make_anchor, headings))
    assert broken == []


@pytest.mark.parametrize("name", PAGES)
def test_files_and_folders_that_a_page_names_exist(name: str) -> None:
    named_rooms = ("optuna_llm", "examples", "examples/engines", "tests/benchmarks")
    rooms = (ROOT, *(ROOT / name for name in named_rooms))
    folders = [*rooms, *(ROOT / "optuna_llm").glob("**/")]
    named = set(_PATH.findall(PAGES[name])) - {"dist/"}
    assert {path for path in named if not any((f / path).exists() for f in folders)} == set()


def test_every_page_is_in_the_index() -> None:
    index = {target for target, _ in _LINK.findall(PAGES["docs/README.md"])}
    pages = {Path(name).name for name in PAGES if name.startswith("docs/")}
    assert pages - index == {"README.md"}


def test_every_storage_key_is_documented() -> None:
    room = Path(optuna_llm.__file__).parent / "_study"
    source = "".join(path.read_text(encoding="utf-8") for path in room.glob("*.py"))
    keys = set(re.findall(r'"(llm:[a-z_:]+)"', source))
    assert len(keys) > 5
    assert [key for key in keys if f"`{key}`" not in PAGES["docs/storage.md"]] == []
