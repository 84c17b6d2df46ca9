"""The code of a page of docs/ that takes more than the tests of all pages have."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any


ROOT = Path(__file__).parents[2]


def read_blocks(page: str, test: str) -> list[str]:
    """The blocks that a page of docs/ says are run by a test."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    mark = rf"<!-- not run: [^\n]*; run by tests/engines/{re.escape(test)} -->"
    blocks = re.findall(rf"^{mark}\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    return blocks


def run_blocks(page: str, test: str) -> dict[str, Any]:
    """Run these blocks from top to bottom; returns the names that they have defined."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in read_blocks(page, test):
        exec(compile(block, page, "exec"), names)
    return names
