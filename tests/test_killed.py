"""Workers that are killed, and a database that goes away."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import multiprocessing
import random
import select
import socket
import threading
import time
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import pytest
import sqlalchemy
from test_storages import new_database
from test_storages import POSTGRESQL

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import suggest_text
from optuna_llm.callbacks import FirstHeartbeatCallback
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


pytestmark = pytest.mark.slow

N_WORKERS = 8
N_KILLS = 30
# So long that its attributes are several: a worker can die between two of them.
PADDING = "# " + "字" * 15_000 + "\n"


def open_with_heartbeat(url: str) -> optuna.storages.RDBStorage:
    # Named so until Optuna 4.9.
    retry = getattr(optuna.storages, "RetryHeartbeatStaleTrialCallback", None)
    name = "heartbeat_stale_trial_callback" if retry else "failed_trial_callback"
    retry = retry or optuna.storages.RetryFailedTrialCallback
    arguments: dict[str, Any] = {name: retry()}
    return optuna.storages.RDBStorage(url, heartbeat_interval=1, grace_period=3, **arguments)


def answer(messages: Sequence[Message]) -> str:
    time.sleep(random.uniform(0, 0.1))
    x = random.randrange(1_000_000)
    return write_reply({"x": x}, {"code": f"{PADDING}y = {x}"})


def evaluate(x: int, text: str) -> float:
    return x + len(text) + hash_of(text)


def hash_of(text: str) -> int:
    return sum(text.encode()) % 1_000


def objective(trial: optuna.Trial) -> float:
    text = suggest_text(trial, "code", PADDING + "y = 0", language="python")
    x = trial.suggest_int("x", 0, 1_000_000)
    time.sleep(random.uniform(0, 0.1))
    return evaluate(x, text)


def work(url: str, prefetch: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    random.seed()
    sampler = LLMSampler(model=ScriptedModel(answer), prefetch=prefetch)
    study = optuna.load_study(study_name="s", storage=open_with_heartbeat(url), sampler=sampler)
    study.optimize(objective, callbacks=[FirstHeartbeatCallback()])


def first_of(trial: FrozenTrial) -> int:
    """Number of the trial that this one does again; its own if it does none."""
    number: int = trial.system_attrs.get("failed_trial", trial.number)
    return number


def test_what_killed_workers_leave_is_done_again_with_the_same_values() -> None:
    context = multiprocessing.get_context("forkserver")
    # What takes long to import, so that a new worker is at work at once.
    context.set_forkserver_preload(
        ["optuna.storages._rdb.models", "psycopg2", "optuna_llm.testing"]
    )
    rng = random.Random(0)
    with new_database(POSTGRESQL, '"') as url:
        study = optuna.create_study(study_name="s", storage=open_with_heartbeat(url))

        def start() -> Any:
            worker = context.Process(target=work, args=(url, rng.randrange(2)), daemon=True)
            worker.start()
            return worker

        workers = [start() for _ in range(N_WORKERS)]
        while len(study.get_trials(deepcopy=False)) < 2 * N_WORKERS:
            time.sleep(0.1)
        for _ in range(N_KILLS):
            time.sleep(rng.uniform(0.05, 0.4))
            i = rng.randrange(N_WORKERS)
            workers[i].kill()
            workers[i].join()
            workers[i] = start()
        for worker in workers:
            worker.kill()
            worker.join()
        # One that is left does again what the others have left undone.
        study.sampler = LLMSampler(model=ScriptedModel(answer))
        callback = FirstHeartbeatCallback()
        deadline = time.monotonic() + 60
        while study.get_trials(deepcopy=False, states=[TrialState.RUNNING, TrialState.WAITING]):
            assert time.monotonic() < deadline
            study.optimize(objective, n_trials=1, callbacks=[callback])
        trials = study.get_trials()

    # Optuna itself has a gap of some milliseconds: a worker that dies between failing a stale
    # trial and adding its copy leaves it without.
    assert {t.state for t in trials} == {TrialState.COMPLETE, TrialState.FAIL}
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    complete = {first_of(t): t for t in trials if t.state == TrialState.COMPLETE}
    assert failed  # How many kills hit a running trial is chance.
    for trial in complete.values():
        text = get_texts(trial)["code"]
        assert trial.value == evaluate(trial.params["x"], text)
        assert text == PADDING + f"y = {text.rpartition(' ')[2]}"
    values = [(t.params["x"], get_texts(t)["code"]) for t in complete.values()]
    assert len(set(values)) == len(values)
    again_of = [(t, complete[first_of(t)]) for t in failed if first_of(t) in complete]
    assert len(again_of) >= len(failed) - 5
    for trial, again in again_of:
        assert trial.params.items() <= again.params.items()
        assert get_texts(trial).items() <= get_texts(again).items()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__


class Gate:
    """Leads connections on to a server, until it is shut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.is_open = True
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self.is_open:
                threading.Thread(target=self._lead, args=[client], daemon=True).start()
            else:
                client.close()

    def _lead(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            other = {client: server, server: client}
            while self.is_open:
                for ready in select.select([client, server], [], [], 0.02)[0]:
                    if not (data := ready.recv(65536)):
                        return
                    other[ready].sendall(data)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_study_goes_on_once_its_database_is_back(prefetch: int) -> None:
    with new_database(POSTGRESQL, '"') as direct:
        address = sqlalchemy.engine.make_url(direct)
        gate = Gate(address.port or 5432)
        url = address.set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
        sampler = LLMSampler(model=ScriptedModel(answer), prefetch=prefetch)
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        study = optuna.create_study(study_name="s", storage=storage, sampler=sampler)
        study.optimize(objective, n_trials=4)

        def interrupted(trial: optuna.Trial) -> float:
            gate.is_open = False
            return objective(trial)

        with pytest.raises(Exception) as caught:  # noqa: PT011
            study.optimize(interrupted, n_trials=1)
        # Optuna may stumble over it once more, when it cannot mark the trial as failed either.
        assert any(
            isinstance(e, optuna.exceptions.StorageInternalError) for e in chain(caught.value)
        )
        gate.is_open = True
        study.optimize(objective, n_trials=4)
        again = optuna.load_study(study_name="s", storage=direct).trials
    complete = [trial for trial in again if trial.state == TrialState.COMPLETE]
    assert len(complete) == 8
    for trial in complete:
        assert trial.value == evaluate(trial.params["x"], get_texts(trial)["code"])
