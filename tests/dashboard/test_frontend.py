"""The bundled front end of the study page is what its sources make."""

from __future__ import annotations

from pathlib import Path
import shutil
import subprocess

import pytest


FRONTEND = Path(__file__).parents[2] / "frontend"


@pytest.mark.slow
def test_the_bundle_is_what_its_sources_make(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    copy = tmp_path / "frontend"
    shutil.copytree(FRONTEND, copy, ignore=shutil.ignore_patterns("node_modules"))
    assets = FRONTEND.parent / "optuna_llm" / "_page" / "assets"
    shutil.copytree(assets, tmp_path / "optuna_llm" / "_page" / "assets")
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=copy, check=True)
    subprocess.run(["npm", "run", "check"], cwd=copy, check=True)
    (copy / "src" / "page.css").write_text("b { color: red }\n")
    stale = subprocess.run(
        ["npm", "run", "check"], cwd=copy, check=False, capture_output=True, text=True
    )
    assert stale.returncode == 1
    assert "page.css is not what its sources make" in stale.stderr
