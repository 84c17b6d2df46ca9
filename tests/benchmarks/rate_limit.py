"""Many workers and one model whose server enforces a limit of tokens a minute.

64 threads of one process, an objective of a minute, a model that answers within six seconds, and
a server that lets 200,000 tokens a minute in and refuses the rest with status 429. Prints for
each way of keeping to the limit: trials a minute, the share of the limit that was used, refused
requests, and the share of the time in which the workers ran their objective. Ten times faster
than it would be: all times are divided by 10, those of the client's own pauses too, and shown as
they would be. Run by hand, with the number of workers and the limit if they are to be others:

    python tests/benchmarks/rate_limit.py 64 200000
"""

from __future__ import annotations

from pathlib import Path
import random
import sys
import time
from typing import Any
from typing import Literal

import optuna

from optuna_llm import LLMSampler
from optuna_llm import OpenAIModel
from optuna_llm import suggest_text
from optuna_llm.models import _rate
from optuna_llm.models import _served
from optuna_llm.testing import write_reply


sys.path.insert(0, str(Path(__file__).parents[1]))
from rate_server import serve_rate


FASTER = 10
MINUTE = 60 / FASTER
OBJECTIVE_SECONDS = 60 / FASTER
CALL_SECONDS = 6 / FASTER
N_MINUTES = 6
MAX_PROMPT_TOKENS = 5_000


def answer_once() -> str:
    numbers = [random.random() for _ in range(40)]
    code = "\n".join(f"y = {number:.6f} * x" for number in numbers)
    return write_reply({"x": random.random()}, {"code": code}, "Another line.")


def answer(prompt: str) -> str:
    if " with 4 proposals" not in prompt:
        return answer_once()
    return "\n".join(f"<proposal>\n{answer_once()}\n</proposal>" for _ in range(4))


def measure(
    name: str,
    n_workers: int,
    limit: int,
    kind: Literal["bucket", "window"] = "bucket",
    *,
    tells: bool = False,
    proposals: int = 1,
    prefetch: int = 0,
    **arguments: Any,
) -> None:
    """Run a study for some minutes, and print what the last of them held."""
    busy: list[tuple[float, float]] = []

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", "y = x", language="python")
        x = trial.suggest_float("x", 0, 1)
        began = time.monotonic()
        time.sleep(OBJECTIVE_SECONDS)
        busy.append((began, time.monotonic()))
        return x + len(text)

    with serve_rate(
        limit,
        MINUTE,
        kind,
        answer=answer,
        seconds=CALL_SECONDS,
        reply_tokens=500 * proposals,
        tells=tells,
    ) as server:
        model = OpenAIModel("m", base_url=server.url, **arguments)
        sampler = LLMSampler(
            model=model,
            seed=0,
            max_prompt_tokens=MAX_PROMPT_TOKENS,
            proposals_per_call=proposals,
            prefetch=prefetch,
            base_sampler=optuna.samplers.RandomSampler(),
            # Every trial is to be the model's, though it is no good.
            proposers=lambda turns, candidates, rng: ["m"],
        )
        study = optuna.create_study(sampler=sampler)
        begin = time.monotonic()
        study.optimize(objective, timeout=N_MINUTES * MINUTE, n_jobs=n_workers)
        end = begin + N_MINUTES * MINUTE
        # Once every worker has waited for its first proposal.
        start = begin + 2 * MINUTE
        seconds = sum(max(0.0, min(b, end) - max(a, start)) for a, b in busy)
        n_trials = sum(start <= b < end for _, b in busy)
        tokens = sum(tokens for at, tokens in server.admitted if start <= at < end)
        n_minutes = N_MINUTES - 2
        print(
            f"{name:44}{n_trials / n_minutes:>12.0f}"
            f"{tokens / n_minutes / limit:>12.2f}"
            f"{server.n_answered:>8}{server.n_refused:>8}"
            f"{seconds / n_workers / (end - start):>8.2f}",
            flush=True,
        )


def main(n_workers: int = 64, limit: int = 200_000) -> None:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    _rate.MINUTE = MINUTE
    _served._FIRST_PAUSE /= FASTER
    _served._LONGEST_PAUSE /= FASTER
    print(f"{n_workers} workers, {limit:,} tokens a minute\n")
    titles = f"{'trials/min':>12}{'of limit':>12}{'calls':>8}{'429':>8}{'busy':>8}"
    print(f"{'':44}{titles}")
    measure("no limit, the server says nothing", n_workers, limit)
    measure("no limit, the server's headers", n_workers, limit, tells=True)
    ours = {"max_tokens_per_minute": limit}
    measure("max_tokens_per_minute", n_workers, limit, **ours)
    measure("max_tokens_per_minute, a sliding window", n_workers, limit, "window", **ours)
    measure(
        "and prefetch=64, proposals_per_call=4",
        n_workers,
        limit,
        proposals=4,
        prefetch=n_workers,
        **ours,
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
