"""The quickstart: what it prints, how far it gets, and how it ends where it cannot."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import runpy
import subprocess
import sys
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from optuna_llm import get_texts


QUICKSTART = Path(__file__).parents[1] / "examples/quickstart.py"


@pytest.fixture
def main() -> Callable[..., Any]:
    found: Callable[..., Any] = runpy.run_path(str(QUICKSTART))["main"]
    return found


@pytest.mark.slow
def test_the_quickstart_improves_visibly_and_goes_on_where_it_was(
    main: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"sqlite:///{tmp_path}/quickstart.db"
    study = main(storage, 2)
    assert study.trials[0].value == pytest.approx(0.881, abs=0.001)
    assert len(main(storage, 1).trials) == 3
    printed = capsys.readouterr().out
    assert "trial  0: accuracy 0.8810, C = 1.963  best so far\n" in printed
    assert "trial  2: accuracy " in printed
    assert f"The best of 3 trials: accuracy {study.best_value:.4f}" in printed
    assert get_texts(study.best_trial)["code"] in printed


@pytest.mark.slow
def test_the_quickstart_improves_as_far_as_the_readme_says(
    main: Callable[..., Any], tmp_path: Path
) -> None:
    study = main(f"sqlite:///{tmp_path}/quickstart.db")
    assert study.best_value == pytest.approx(0.95, abs=0.01)


def run_quickstart(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(QUICKSTART), *arguments],
        env={**os.environ, "OPENAI_API_KEY": "x", "OPTUNA_LLM_MODEL": "m", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_quickstart_ends_with_the_reason_if_the_key_is_wrong(
    tmp_path: Path, httpserver: HTTPServer
) -> None:
    answer = {"error": {"message": "Incorrect API key"}}
    httpserver.expect_request("/chat/completions").respond_with_json(answer, status=401)
    storage = f"sqlite:///{tmp_path}/quickstart.db"
    run = run_quickstart(storage, "9", OPENAI_BASE_URL=httpserver.url_for(""))
    assert run.returncode == 1
    assert "trial  1: failed: " in run.stdout
    assert run.stdout.count("trial") == 2
    assert run.stderr.startswith("ModelSetupError: ")
    assert "Incorrect API key" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_the_quickstart_ends_with_the_reason_if_the_server_is_not_there(tmp_path: Path) -> None:
    run = run_quickstart(
        f"sqlite:///{tmp_path}/quickstart.db", OPENAI_BASE_URL="http://127.0.0.1:9"
    )
    assert run.returncode == 1
    assert run.stdout.count("trial") == 2
    assert "Connection refused" in run.stdout
    assert run.stderr.splitlines()[-1].startswith("NeverAnsweredError: No response from 127.0.0.1")
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_the_quickstart_says_how_it_is_used() -> None:
    run = run_quickstart("--help")
    assert run.returncode == 0
    assert "usage: quickstart.py [-h] [storage] [n_trials]" in run.stdout
