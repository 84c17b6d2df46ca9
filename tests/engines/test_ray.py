"""Ray: workers of a study as its tasks, and Ray Tune with the sampler."""

from __future__ import annotations

import ast
from pathlib import Path
import re

import pytest
from scripts import assert_shared
from scripts import read_trials
from scripts import run


pytest.importorskip("ray.tune", reason="ray[tune] is not installed")

pytestmark = [
    pytest.mark.slow,  # It starts a cluster.
    pytest.mark.filterwarnings("ignore"),  # Of Ray's dependencies.
]


@pytest.fixture
def ray_variables(tmp_path: Path) -> dict[str, str]:
    """Ray keeps a token and results in the home folder, and would report its use."""
    return {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}


def test_the_script_for_ray_shares_a_study_between_its_tasks(
    tmp_path: Path, ray_variables: dict[str, str]
) -> None:
    path = tmp_path / "study.log"
    printed = run("ray_workers.py", path, 12, 2, **ray_variables)
    counts = re.search(r"trials by worker: \[(\d+), (\d+)\]", printed)
    assert counts is not None
    trials = read_trials(path)
    assert int(counts[1]) + int(counts[2]) == len(trials)
    assert_shared(trials, 12, 2)


def test_the_script_for_ray_tune_runs_texts_that_the_model_proposed(
    ray_variables: dict[str, str],
) -> None:
    printed = run("ray_tune.py", 4, **ray_variables)
    best = re.search(r"^best of 4: (\S+) with (\{.*\})$", printed, re.MULTILINE)
    assert best is not None
    config = ast.literal_eval(best[2])
    x, y = ast.literal_eval(config["point"])
    assert float(best[1]) == pytest.approx((x**2 + y**2) * config["scale"], rel=1e-3)
    assert config["point"] != "[7.5, -4.0]"
