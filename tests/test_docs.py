"""The README and docs/: code runs, links lead somewhere, and the files named there exist."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

import pytest

import optuna_llm


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}
WRITTEN_LATER = {"docs/security.md", "docs/servers.md"}
"""Pages that are linked to already."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^(<!-- not run: .+ -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
_PATH = re.compile(r"`([\w./-]+\.(?:py|md|toml)|[\w.-]+/)`")


def find_runnable(page: str) -> list[str]:
    """The blocks of Python on a page that are to run."""
    return [code for not_run, code in _PYTHON.findall(page) if not not_run]


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if find_runnable(page)])
def test_the_code_of_a_page_runs_from_top_to_bottom(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for code in find_runnable(PAGES[name]):
        exec(compile(code, name, "exec"), names)


def test_the_code_of_the_readme_stands_alone() -> None:
    assert len(find_runnable(README)) == 1


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
    assert set(broken) - {Path(page).name for page in WRITTEN_LATER} - WRITTEN_LATER == set()


@pytest.mark.parametrize("name", PAGES)
def test_files_and_folders_that_a_page_names_exist(name: str) -> None:
    rooms = (ROOT, ROOT / "optuna_llm", ROOT / "examples", ROOT / "tests/benchmarks")
    folders = [*rooms, *(ROOT / "optuna_llm").glob("_*/")]
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
