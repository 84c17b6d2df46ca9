"""A study in DaskStorage of optuna-integration, worked on by the processes of a Dask cluster."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
import re
import subprocess
import sys
from typing import Any
import zlib

import optuna
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from pages import find_runnable
from pages import PAGES
from provenance import only_models
from provenance import told
import pytest
from scripts import run as run_script

from optuna_llm import Completion
from optuna_llm import describe_study
from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelSetupError
from optuna_llm import propose
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm import Usage
from optuna_llm import usage
from optuna_llm.callbacks import MaxTokensCallback
from optuna_llm.dashboard import annotate
from optuna_llm.dashboard import write_report
from optuna_llm.evaluate import evaluate_cases
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


distributed = pytest.importorskip("distributed", reason="Dask's distributed is not installed")
integration = pytest.importorskip(
    "optuna_integration", reason="optuna-integration is not installed"
)

pytestmark = [
    pytest.mark.slow,  # Its workers are processes.
    # Dask's own, of ports in use and of what it is about to change.
    pytest.mark.filterwarnings("ignore"),
]

TEXT = "y = 2.5  # 字😀\n" * 2_000
"""More than fits into one attribute."""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of two workers, each a process."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def reply(messages: Sequence[Message]) -> Completion:
    """Values that no other prompt gets, from a digest of the prompt."""
    x = sum(messages[1].content.encode()) % 99_991 / 10_000
    text = write_reply({"x": x}, {"code": f"{TEXT}{x}"}, rationale="Why not?")
    return Completion(text, "scripted", Usage(prompt_tokens=100, completion_tokens=10))


def refuse(messages: Sequence[Message]) -> Completion:
    raise ModelSetupError("The key is wrong.")


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 10)
    code = suggest_text(trial, "code", TEXT, language="python")
    report_feedback(trial, f"{len(code)} characters")
    return x


def score(case: int) -> tuple[float, str]:
    return case / 10, "low" if case < 5 else ""


def objective_of_cases(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0, 10)
    return evaluate_cases(trial, range(10), score, max_workers=2)


def create_study(function: Any = reply, **arguments: Any) -> optuna.Study:
    model = ScriptedModel(function)
    sampler = LLMSampler("Go down.", model=model, proposers=only_models, **arguments)
    return optuna.create_study(storage=integration.DaskStorage(), sampler=sampler)


def run(client: Any, study: optuna.Study, function: Any = objective, **arguments: Any) -> None:
    """Optimize in two tasks at once, one for each worker."""
    tasks = [client.submit(study.optimize, function, pure=False, **arguments) for _ in range(2)]
    client.gather(tasks)


def read_report(path: Path) -> str:
    """The data inside a study page."""
    page = path.read_text(encoding="utf-8")
    packed = re.findall(r'<script type="application/octet-stream" class="\w+">([^<]*)', page)
    return "".join(zlib.decompress(base64.b64decode(part)).decode() for part in packed)


@pytest.mark.parametrize("prefetch", [0, 1])
def test_workers_share_a_study_and_try_nothing_twice(client: Any, prefetch: int) -> None:
    study = create_study(prefetch=prefetch)
    describe_study(study, n_trials=30)
    run(client, study, callbacks=[MaxTrialsCallback(30)])
    trials = study.trials
    assert len(trials) >= 30
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    values = [(t.params["x"], get_texts(t)["code"]) for t in trials]
    assert len(set(values)) == len(values)
    assert all(text.startswith(TEXT) for _, text in values)
    assert [told(t, "source") for t in trials].count("model") > 0.8 * len(trials)


def test_what_a_client_does_with_a_study_works_beside_its_workers(
    client: Any, tmp_path: Path
) -> None:
    study = create_study()
    run(client, study, n_trials=3)
    number = propose(study, {"x": 0.125, "code": "y = 1"}, proposer="Ada")
    run(client, study, n_trials=1)
    assert study.trials[number].params == {"x": 0.125}
    assert get_texts(study.trials[number]) == {"code": "y = 1"}
    assert told(study.trials[number], "proposer") == "Ada"
    assert usage(study).calls >= 5
    assert "Go down." in str(study.sampler.preview(study))
    annotate(study)
    copied = optuna.load_study(
        study_name=study.study_name, storage=study._storage.get_base_storage()
    )
    assert [get_texts(t) for t in copied.trials] == [get_texts(t) for t in study.trials]
    write_report(study, tmp_path / "report.html")
    assert "Why not?" in read_report(tmp_path / "report.html")


def test_cases_are_stored_one_by_one(client: Any) -> None:
    study = create_study()
    run(client, study, objective_of_cases, n_trials=2)
    for trial in study.trials:
        assert trial.intermediate_values == {case: case / 10 for case in range(10)}
        assert trial.user_attrs["llm:cases"]["words"] == {str(i): "low" for i in range(5)}


def test_a_budget_of_tokens_stops_all_workers(client: Any) -> None:
    study = create_study()
    run(client, study, callbacks=[MaxTokensCallback(1_000)], n_trials=100)
    assert 1_000 <= usage(study).prompt_tokens + usage(study).completion_tokens < 2_000


def test_an_error_of_the_setup_ends_the_study_and_reaches_the_client(client: Any) -> None:
    study = create_study(refuse)
    with pytest.raises(ModelSetupError, match=r"The key is wrong\."):
        run(client, study, n_trials=5, catch=Exception)
    assert len(study.trials) < 10


def test_the_script_for_dask_shares_a_study_between_its_tasks() -> None:
    printed = run_script("dask_workers.py", 12, 2)
    counts = re.search(r"trials by worker: \[([\d, ]+)\], best: [\d.]+", printed)
    assert counts is not None
    assert 12 <= sum(map(int, counts[1].split(", "))) < 14


def test_the_code_of_the_page_on_clusters_runs(tmp_path: Path) -> None:
    """As a script: Dask's processes load it anew."""
    script = tmp_path / "page.py"
    script.write_text(
        "\n".join(find_runnable(PAGES["docs/clusters.md"], "distributed")), encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout) <= 1
