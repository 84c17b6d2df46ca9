"""One study on each storage, worked on by many processes at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import multiprocessing
import os
from pathlib import Path
import socket
import subprocess
import sys
from typing import Any
from uuid import uuid4

import optuna
from optuna.trial import TrialState
from provenance import told
import pytest
import sqlalchemy
from storage_worker import open_storage
from waiting import accepts_connections
from waiting import wait_for

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import report_feedback
from optuna_llm import suggest_text


WORKER = Path(__file__).parent / "storage_worker.py"
POSTGRESQL = os.environ.get(
    "OPTUNA_LLM_TEST_POSTGRESQL", "postgresql+psycopg2://postgres@127.0.0.1:5432/postgres"
)
MYSQL = os.environ.get("OPTUNA_LLM_TEST_MYSQL", "mysql+pymysql://root@127.0.0.1:3306/mysql")
REDIS = os.environ.get("OPTUNA_LLM_TEST_REDIS", "redis://127.0.0.1:6379")

N_WORKERS = 8
N_TRIALS = 25


@contextmanager
def new_database(server: str, quote: str) -> Iterator[str]:
    """A database of its own on a server, removed at the end; a skip where there is no server."""
    url = sqlalchemy.engine.make_url(server)
    name = f"optuna_llm_{uuid4().hex[:12]}"
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {quote}{name}{quote}"))
    except sqlalchemy.exc.OperationalError as error:
        pytest.skip(f"no server at {url.host}:{url.port}: {error.orig}")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if url.get_backend_name() == "postgresql" else ""
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"DROP DATABASE {quote}{name}{quote}{force}"))
        engine.dispose()


def serve_proxy(url: str, port: int) -> None:
    optuna.storages.run_grpc_proxy_server(
        optuna.storages.get_storage(url), host="127.0.0.1", port=port
    )


@contextmanager
def open_proxy(url: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    optuna.storages.get_storage(url)  # Makes the tables.
    server = multiprocessing.get_context("spawn").Process(target=serve_proxy, args=(url, port))
    server.start()
    try:
        wait_for(lambda: accepts_connections(port))
        yield f"grpc:127.0.0.1:{port}"
    finally:
        server.kill()
        server.join()


SERVERS = ["postgresql", "mysql", "journal-redis", "grpc"]


@pytest.fixture(
    params=[
        "sqlite",
        "journal-file",
        *(pytest.param(server, marks=pytest.mark.slow) for server in SERVERS),
    ]
)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty storage of each kind."""
    kind = request.param
    if kind == "postgresql":
        with new_database(POSTGRESQL, '"') as url:
            yield url
    elif kind == "mysql":
        with new_database(MYSQL, "`") as url:
            yield url
    elif kind == "journal-redis":
        redis = pytest.importorskip("redis")
        client = redis.Redis.from_url(REDIS)
        try:
            client.ping()
        except redis.exceptions.ConnectionError as error:
            pytest.skip(f"no server at {REDIS}: {error}")
        prefix = uuid4().hex
        yield f"journal-{REDIS}#{prefix}"
        for key in client.keys(f"{prefix}*"):
            client.delete(key)
    elif kind == "grpc":
        with open_proxy(f"sqlite:///{tmp_path}/study.db") as url:
            yield url
    else:
        yield {
            "sqlite": f"sqlite:///{tmp_path}/study.db",
            "journal-file": f"journal-file:{tmp_path}/journal.log",
        }[kind]


@pytest.mark.slow
def test_many_processes_share_a_study_and_try_nothing_twice(address: str) -> None:
    name = uuid4().hex
    study = optuna.create_study(study_name=name, storage=open_storage(address))
    command = [sys.executable, str(WORKER), address, name, str(N_TRIALS)]
    workers = [subprocess.Popen(command) for _ in range(N_WORKERS)]
    assert [worker.wait(300) for worker in workers] == [0] * N_WORKERS
    trials = study.trials
    assert len(trials) == N_WORKERS * N_TRIALS
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    values = [(t.params["x"], get_texts(t)["code"]) for t in trials]
    assert len(set(values)) == len(values)
    for trial, (x, text) in zip(trials, values, strict=True):
        assert trial.value == x * x + len(text)
        assert text.endswith("字😀")
    sources = [told(t, "source") for t in trials]
    # Of whichever trial was the first to ask.
    assert "initial" in sources
    assert sources.count("model") > 0.8 * len(trials)


def test_texts_of_any_length_make_the_round_trip(address: str) -> None:
    texts = [x * n for x in ("a", "字", "😀", "\x00", "\ud800") for n in (1, 60_000, 70_000)]

    def objective(trial: optuna.Trial) -> float:
        report_feedback(trial, texts[-1])
        return sum(len(suggest_text(trial, f"t{i}", text)) for i, text in enumerate(texts))

    name = uuid4().hex
    sampler = LLMSampler(model="offline")
    storage: Any = open_storage(address)
    study = optuna.create_study(study_name=name, storage=storage, sampler=sampler)
    study.optimize(objective, n_trials=1)
    again = optuna.load_study(study_name=name, storage=open_storage(address))
    assert list(get_texts(again.trials[0]).values()) == texts
    assert again.trials[0].state == TrialState.COMPLETE


@pytest.mark.slow
def test_texts_of_four_megabytes_make_the_round_trip(address: str) -> None:
    unit = "ab\n\t字😀\x00\ud800"
    text = unit * (4_000_000 // len(unit.encode("utf-8", "surrogatepass")))

    def objective(trial: optuna.Trial) -> float:
        return len(suggest_text(trial, "code", text))

    name = uuid4().hex
    study = optuna.create_study(
        study_name=name, storage=open_storage(address), sampler=LLMSampler(model="offline")
    )
    study.optimize(objective, n_trials=1)
    again = optuna.load_study(study_name=name, storage=open_storage(address))
    assert get_texts(again.trials[0]) == {"code": text}
