"""The worker of examples/engines/ and the scripts that start it."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import threading
from typing import Any

from optuna.trial import TrialState
import pytest
from pytest_httpserver import HTTPServer
from scripts import assert_shared
from scripts import ENGINES
from scripts import read_trials
from scripts import run
from waiting import wait_for
from werkzeug import Response
import yaml


ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow  # They start processes that load all anew.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that is not there yet."""
    return tmp_path / "study.log"


@pytest.fixture
def silent_server() -> Iterator[tuple[str, list[object]]]:
    """The address of a server that does not answer, and what it has been asked."""
    over = threading.Event()
    asked: list[object] = []

    def wait(request: object) -> Response:
        asked.append(request)
        over.wait(600)
        return Response(status=503)

    with HTTPServer(threaded=True) as server:
        server.expect_request("/v1/chat/completions").respond_with_handler(wait)
        yield server.url_for("/v1"), asked
        over.set()


def test_workers_end_once_the_study_has_its_trials_and_go_on_when_it_may_have_more(
    path: Path,
) -> None:
    assert run("worker.py", path, 4) == "4 trials by this worker\n"
    assert run("worker.py", path, 4) == "0 trials by this worker\n"
    command = [sys.executable, str(ENGINES / "worker.py"), str(path), "20"]
    workers = [subprocess.Popen(command) for _ in range(2)]
    assert [worker.wait(300) for worker in workers] == [0, 0]
    assert_shared(read_trials(path), 20, 2)


def test_a_worker_that_an_engine_ends_leaves_no_trial_running(
    path: Path, silent_server: tuple[str, list[object]]
) -> None:
    address, asked = silent_server
    command = [sys.executable, str(ENGINES / "worker.py"), str(path), "10"]
    worker = subprocess.Popen(
        command, env={**os.environ, "OPENAI_BASE_URL": address, "OPTUNA_LLM_MODEL": "m"}
    )
    # Trial 0 needs no model, and trial 1 waits for what it has asked for.
    wait_for(lambda: asked, 120)
    assert [t.state for t in read_trials(path)] == [TrialState.COMPLETE, TrialState.RUNNING]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(120) != 0
    assert [t.state for t in read_trials(path)] == [TrialState.COMPLETE, TrialState.FAIL]


def test_the_script_for_slurm_starts_the_worker_as_a_step_of_its_job(
    path: Path, tmp_path: Path
) -> None:
    """Slurm itself is not here: what it would set and start is."""
    (tmp_path / "srun").write_text('#!/bin/sh\necho "step: $*"\nexec "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    folders = [str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]
    variables = {"PATH": os.pathsep.join(folders), "SLURM_SUBMIT_DIR": str(ROOT)}
    done = subprocess.run(
        ["bash", str(ENGINES / "slurm.sh"), str(path), "3"],
        env={**os.environ, **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"step: python examples/engines/worker.py {path} 3\n")
    assert len(read_trials(path)) == 3


def test_the_job_for_kubernetes_calls_the_worker_with_what_its_secret_holds() -> None:
    text = (ENGINES / "kubernetes.yaml").read_text(encoding="utf-8")
    job: dict[str, Any] = yaml.safe_load(text)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "worker.py", "$(STORAGE)", "200"]
    refs = {
        e["name"]: e["valueFrom"]["secretKeyRef"] for e in container["env"] if "valueFrom" in e
    }
    keys = {ref["key"] for ref in refs.values()}
    assert {"STORAGE", "OPENAI_API_KEY"} == refs.keys()
    page = (ROOT / "docs/clusters.md").read_text(encoding="utf-8")
    for told in (text, page):
        assert set(re.findall(r"--from-literal=(\w+)=", told)) == keys
        assert {ref["name"] for ref in refs.values()} == set(
            re.findall(r"secret generic (\S+)", told)
        )
