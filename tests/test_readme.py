from __future__ import annotations

from pathlib import Path
import re
from typing import Any

import pytest

import optuna_llm


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_every_block_of_code_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 9
    for block in BLOCKS:
        names: dict[str, Any] = {"__name__": "readme"}
        exec(compile(block, "README.md", "exec"), names)


@pytest.mark.parametrize("command", ["try", "test"])
def test_the_commands_that_ci_runs_are_there(command: str) -> None:
    assert f"<!-- command: {command} -->\n```sh\n" in README


def test_every_storage_key_is_documented() -> None:
    room = Path(optuna_llm.__file__).parent / "_study"
    source = "".join(path.read_text() for path in room.glob("*.py"))
    keys = set(re.findall(r'"(llm:[a-z_:]+)"', source))
    assert len(keys) > 5
    assert [key for key in keys if f"`{key}`" not in README] == []
