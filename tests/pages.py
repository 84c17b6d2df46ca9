"""The README, docs/ and the Python on their pages."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any


ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}

_PYTHON = re.compile(
    r"^(?:<!-- (not run: .+|run with \w+) -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def find_runnable(page: str, package: str = "") -> list[str]:
    """The blocks of Python on a page that are to run.

    Args:
        page: The page.
        package: The package that is to run them, beside what all tests have.
    """
    mark = f"run with {package}" if package else ""
    return [code for marked, code in _PYTHON.findall(page) if marked == mark]


def run_page(name: str, package: str = "") -> dict[str, Any]:
    """Run the Python of a page from top to bottom; the names that it has then."""
    names: dict[str, Any] = {"__name__": "page"}
    for code in find_runnable(PAGES[name], package):
        exec(compile(code, name, "exec"), names)
    return names
