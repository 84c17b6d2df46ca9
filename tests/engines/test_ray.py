"""Ray: workers of a study as its tasks, and Ray Tune with the sampler."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import itertools
import json
from pathlib import Path
import re

import pytest
from pytest_httpserver import HTTPServer
from scripts import assert_shared
from scripts import read_trials
from scripts import run
from werkzeug import Response

from optuna_llm.testing import write_reply


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


@pytest.fixture
def model_address() -> Iterator[str]:
    """The address of a model that proposes points on an axis, each another one."""
    numbers = itertools.count(1)

    def answer(request: object) -> Response:
        n = next(numbers)
        reply = write_reply({"scale": 0.5 + n / 100}, {"point": f"[0.0, {n}.0]"})
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
        return Response(json.dumps({**body, "choices": [choice]}), mimetype="application/json")

    with HTTPServer(threaded=True) as server:
        server.expect_request("/v1/chat/completions").respond_with_handler(answer)
        yield server.url_for("/v1")


def test_the_script_for_ray_tune_runs_texts_that_the_model_proposed(
    ray_variables: dict[str, str], model_address: str
) -> None:
    variables = {"OPENAI_BASE_URL": model_address, "OPTUNA_LLM_MODEL": "m"}
    printed = run("ray_tune.py", 4, **ray_variables, **variables)
    best = re.search(r"^best of 4: (\S+) with (\{.*\})$", printed, re.MULTILINE)
    assert best is not None
    # Two trials run at once: the first two have the initial text, which is far worse.
    assert ast.literal_eval(best[2]) == {"scale": 0.51, "point": "[0.0, 1.0]"}
    assert float(best[1]) == 0.51
