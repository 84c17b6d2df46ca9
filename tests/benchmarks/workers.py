"""Many workers on one PostgreSQL study: how much of the model's time can be hidden.

A model server that answers after 1 s, an objective that sleeps for 1 s, and 1 to 8 workers as
threads of one process and as processes. Prints what part of the ideal they reach, a trial per
worker and second: without prefetch, with two proposals prefetched per worker, and under Optuna's
RandomSampler, which shows what Optuna and the database take by themselves. The rate is that of
the running study: each worker's first three trials are left out. Also calls and prompt tokens per
trial, and how many trials repeat another. Run by hand; it needs the server that
tests/test_storages.py needs:

    python tests/benchmarks/workers.py
"""

from __future__ import annotations

from collections import defaultdict
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import json
import multiprocessing
from pathlib import Path
import random
import sys
import threading
import time
from typing import Any

import optuna

from optuna_llm import LLMSampler
from optuna_llm import OpenAIModel
from optuna_llm import suggest_text
from optuna_llm.testing import write_reply


sys.path.insert(0, str(Path(__file__).parents[1]))
from test_storages import new_database
from test_storages import POSTGRESQL


SECONDS = 1.0
TRIALS_PER_WORKER = 20


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        prompt = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(SECONDS)
        # As short of imagination as models are: one of 20,000 points, so that a few are repeats.
        x = random.randrange(20_000)
        text = write_reply({"x": x}, {"code": f"y = {x} + x"}, "Another point.")
        body = json.dumps(
            {
                "model": "m",
                "choices": [{"message": {"content": text}}],
                "usage": {"prompt_tokens": len(prompt) // 4, "completion_tokens": 40},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def serve(ports: Any) -> None:
    ThreadingHTTPServer.request_queue_size = 100
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ports.put(server.server_address[1])
        server.serve_forever()


def work(storage: str, url: str, n_jobs: int, prefetch: int | None, starts: Any) -> None:
    """Run trials in so many threads; put for each thread the times at which its trials began."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler: Any = optuna.samplers.RandomSampler()
    if prefetch is not None:
        sampler = LLMSampler(model=OpenAIModel("m", base_url=url), prefetch=prefetch)
    begun: dict[int, list[float]] = defaultdict(list)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_int("x", 0, 19_999)
        text = suggest_text(trial, "code", "y = x", language="python")
        begun[threading.get_ident()].append(time.monotonic())
        time.sleep(SECONDS)
        return x + len(text)

    study = optuna.load_study(study_name="study", storage=storage, sampler=sampler)
    study.optimize(objective, n_trials=TRIALS_PER_WORKER * n_jobs, n_jobs=n_jobs)
    for times in begun.values():
        starts.put(times)


def measure(url: str, form: str, count: int, mode: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    starts: Any = spawn.Queue()
    n_jobs, n_processes = (count, 1) if form == "threads" else (1, count)
    prefetch = {"alone": None, "no": 0, "yes": 2 * n_jobs}[mode]
    with new_database(POSTGRESQL, '"') as storage:
        study = optuna.create_study(study_name="study", storage=storage)
        arguments = (storage, url, n_jobs, prefetch, starts)
        workers = [spawn.Process(target=work, args=arguments) for _ in range(n_processes)]
        for worker in workers:
            worker.start()
        periods = []
        for _ in range(count):
            times = starts.get()
            periods.append((times[-1] - times[3]) / (len(times) - 4))
        for worker in workers:
            worker.join()
        trials = study.get_trials(deepcopy=False)
    rate = sum(1 / period for period in periods)
    attributes = [t.user_attrs for t in trials]
    calls = sum(a.get("llm:proposal", {}).get("calls", 0) for a in attributes) / len(trials)
    tokens = sum(a.get("llm:proposal", {}).get("prompt_tokens", 0) for a in attributes) / len(
        trials
    )
    repeats = len(trials) - len({(t.params["x"], t.user_attrs["code"]) for t in trials})
    print(
        f"{form:10}{count:>8}{mode:>10}{rate:>10.2f}{rate * SECONDS / count:>10.3f}"
        f"{calls:>8.2f}{tokens:>10,.0f}{'' if mode == 'alone' else repeats:>9}",
        flush=True,
    )


def main(counts: list[int]) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spawn = multiprocessing.get_context("spawn")
    ports: Any = spawn.Queue()
    server = spawn.Process(target=serve, args=(ports,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ports.get()}/v1"
    print(
        f"{'workers as':10}{'count':>8}{'prefetch':>10}{'trials/s':>10}{'of ideal':>10}"
        f"{'calls':>8}{'tokens':>10}{'repeats':>9}"
    )
    for form in ("threads", "processes"):
        for count in counts:
            for mode in ("alone", "no", "yes"):
                measure(url, form, count, mode)
    server.terminate()


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [1, 2, 4, 8])
