"""The site that mkdocs builds of docs/."""

from __future__ import annotations

import importlib
from pathlib import Path
import re
import subprocess
import sys

import pytest


pytest.importorskip("mkdocs", reason="mkdocs is not installed")

pytestmark = pytest.mark.slow  # It takes seconds to build.

ROOT = Path(__file__).parents[1]
REFERENCE = sorted(path.stem for path in ROOT.glob("docs/reference/*.md"))

_HEADING = re.compile(r'<h2 id="([\w.]+)" class="doc doc-heading">')
_LINK = re.compile(r'(?:href|src)="(?!https?:|data:|mailto:|#)([^"#]+)')
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_MARKUP = re.compile(r":(?:class|func|meth|attr):|code-block::|```|^:::", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return folder


def public_names(module: str) -> set[str]:
    """What a module offers: what it exports, or else what is defined in it."""
    loaded = importlib.import_module(module)
    exported = getattr(loaded, "__all__", None)
    if exported is not None:
        return set(exported)
    own = {name for name, value in vars(loaded).items() if _is_defined_in(value, module)}
    return {name for name in own if not name.startswith("_")}


def _is_defined_in(value: object, module: str) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module


def test_every_public_module_has_a_page() -> None:
    package = ROOT / "optuna_llm"
    found = {path.stem for path in package.glob("*.py")}
    found |= {path.parent.name for path in package.glob("*/__init__.py")}
    public = {name for name in found if not name.startswith("_")}
    # The command line has a page of its own kind.
    assert {"optuna_llm", *public} - {"cli"} == set(REFERENCE)


@pytest.mark.parametrize("page", REFERENCE)
def test_every_public_name_is_in_the_reference(site: Path, page: str) -> None:
    module = "optuna_llm" if page == "optuna_llm" else f"optuna_llm.{page}"
    html = (site / "reference" / page / "index.html").read_text(encoding="utf-8")
    shown = {name.removeprefix(f"{module}.") for name in _HEADING.findall(html)}
    assert shown >= public_names(module)


def test_links_within_the_site_lead_to_files(site: Path) -> None:
    broken = []
    for page in site.rglob("index.html"):
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            broken += [(page, target)] * (not path.exists())
    assert broken == []


def test_no_markup_is_shown_as_it_was_written(site: Path) -> None:
    for page in site.rglob("index.html"):
        html = _COMMENT.sub("", page.read_text(encoding="utf-8"))
        assert _MARKUP.findall(html) == [], page
