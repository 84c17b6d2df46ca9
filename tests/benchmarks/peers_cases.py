"""An objective over cases, side by side with GEPA: same scripted model, cases and evaluations.

Run by hand, with the package beside this one:

    pip install gepa
    python tests/benchmarks/peers_cases.py [seeds [evaluations]]

Scripted models of three kinds (``case_models.py``) propose; the text to improve is a kilobyte of
prose. Printed is, by kind and optimizer, what each came to when it had evaluated so many cases:
calls to the model, tokens of their prompts (with and without a prefix cache), evaluations, the
best mean score. GEPA is run as it
comes (a parent drawn from the Pareto front, a minibatch of 3 cases decides which children are
evaluated on all) and with the leading candidate as the parent. Its merges need a program of
several texts, so there are none here.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from dataclasses import dataclass
from functools import partial
import statistics
import sys
from typing import Any
import warnings

from case_models import ABLE
from case_models import CaseModel
from case_models import KINDS
from case_models import N_CASES
import gepa
from gepa.core.adapter import EvaluationBatch
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.pruners import NopPruner
from optuna.pruners import WilcoxonPruner

from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.evaluate import evaluate_cases


N_LINES = 12


@dataclass(frozen=True)
class Run:
    """What an optimizer came to.

    Attributes:
        calls: Calls to the model.
        tokens: Tokens of their prompts, one counted as 4 characters.
        billed: The same, with what a provider's prefix cache holds at a tenth.
        evaluations: How many cases were evaluated.
        score: The best mean score over all cases.
    """

    calls: int
    tokens: int
    billed: int
    evaluations: int
    score: float


def describe(case: int, score: float) -> str:
    """What the evaluator says of a case."""
    return "" if score >= 1 else f"Question {case}: the answer lacks a part, credit {score:.2f}."


def run_ours(seed: int, kind: str, budget: int, pruner: Callable[[], BasePruner]) -> Run:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)
    model = CaseModel(KINDS[kind], ABLE, seed, N_LINES)
    n_evaluated = 0

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "prompt", model.initial)

        def evaluate(case: int) -> tuple[float, str]:
            nonlocal n_evaluated
            n_evaluated += 1
            score = model.score(text, case)
            return score, describe(case, score)

        return evaluate_cases(trial, range(N_CASES), evaluate)

    def stop(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if n_evaluated >= budget:
            study.stop()

    sampler = LLMSampler("Answer questions.", model=model, seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner())
    study.optimize(objective, callbacks=[stop])
    return Run(model.n_calls, model.tokens, model.billed, n_evaluated, study.best_value)


class Adapter:
    """A text as GEPA's program."""

    propose_new_texts = None

    def __init__(self, model: CaseModel) -> None:
        self.model = model
        self.n_evaluated = 0

    def evaluate(
        self, batch: Sequence[int], candidate: Mapping[str, str], capture_traces: bool = False
    ) -> EvaluationBatch[float, int]:
        scores = [self.model.score(candidate["prompt"], case) for case in batch]
        self.n_evaluated += len(batch)
        return EvaluationBatch(scores, scores, list(batch) if capture_traces else None)

    def make_reflective_dataset(
        self,
        candidate: Mapping[str, str],
        batch: EvaluationBatch[float, int],
        components: Sequence[str],
    ) -> dict[str, list[dict[str, str]]]:
        told = [
            {"Inputs": f"Question {case}", "Feedback": describe(case, score) or "Correct."}
            for case, score in zip(batch.trajectories or (), batch.scores, strict=True)
        ]
        return {name: told for name in components}


class Silent:
    """A logger."""

    def log(self, message: str) -> None:
        """Log nothing."""


def run_gepa(seed: int, kind: str, budget: int, selection: str) -> Run:
    model = CaseModel(KINDS[kind], ABLE, seed, N_LINES)
    adapter = Adapter(model)

    def reflect(prompt: str) -> str:
        return f"```\n{model.make_child(model.find(prompt), None, prompt)}\n```"

    result = gepa.optimize(
        seed_candidate={"prompt": model.initial},
        trainset=list(range(N_CASES)),
        valset=list(range(N_CASES)),
        adapter=adapter,
        reflection_lm=reflect,
        candidate_selection_strategy=selection,
        max_metric_calls=budget,
        logger=Silent(),
        seed=seed,
    )
    score = max(result.val_aggregate_scores)
    return Run(model.n_calls, model.tokens, model.billed, adapter.n_evaluated, score)


OPTIMIZERS: Mapping[str, Callable[..., Run]] = {
    "optuna_llm": partial(run_ours, pruner=NopPruner),
    "optuna_llm, WilcoxonPruner": partial(
        # From 14 cases on: for up to 13, SciPy's exact test takes up to a second each time.
        run_ours,
        pruner=partial(WilcoxonPruner, n_startup_steps=14),
    ),
    "GEPA": partial(run_gepa, selection="pareto"),
    "GEPA, best as parent": partial(run_gepa, selection="current_best"),
}


def main() -> None:
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    budget = int(sys.argv[2]) if len(sys.argv) > 2 else 6_000
    print(f"At {budget:,} case evaluations, {n_seeds} seeds:\n")
    print(f"{'':40}{'calls':>8}{'tokens':>12}{'billed':>10}{'evaluations':>13}{'score':>8}")
    with ProcessPoolExecutor(2) as pool:
        for kind in KINDS:
            for name, optimizer in OPTIMIZERS.items():
                asked: Callable[[int], Run] = partial(optimizer, kind=kind, budget=budget)
                runs: Any = [astuple(run) for run in pool.map(asked, range(n_seeds))]
                means = map(statistics.fmean, zip(*runs, strict=True))
                calls, tokens, billed, evaluations, score = means
                print(
                    f"{kind:12} {name:27}{calls:8.0f}{tokens:12,.0f}{billed:10,.0f}"
                    f"{evaluations:13,.0f}{score:8.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
