"""The code of a page of docs/ that takes more than the tests of all pages have."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any


ROOT = Path(__file__).parents[2]


def run_blocks(page: str, test: str) -> dict[str, Any]:
    """Run the blocks that a page says are run by a test, from top to bottom.

    Args:
        page: A file of docs/.
        test: The name of the test's file.

    Returns:
        The names that they have defined.
    """
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    mark = rf"<!-- not run: [^\n]*; run by tests/engines/{re.escape(test)} -->"
    blocks = re.findall(rf"^{mark}\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    return names
