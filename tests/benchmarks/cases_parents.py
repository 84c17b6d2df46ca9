"""Which trials the next one is made of, where the objective is a mean over cases: rules compared.

Run by hand, half an hour:

    python tests/benchmarks/cases_parents.py [seeds [proposals]]

Scripted models of three kinds (``case_models.py``) propose through the real sampler. Printed is
the best mean score over 100 cases, by kind and rule; then the same for a model that merges badly;
then what WilcoxonPruner saves.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
import statistics
import sys
from typing import Any
import warnings

from case_models import ABLE
from case_models import CaseModel
from case_models import choose_best
from case_models import CLUMSY
from case_models import draw_front
from case_models import draw_front_with_merges
from case_models import KINDS
from case_models import N_CASES
from case_models import Skill
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.pruners import NopPruner
from optuna.pruners import WilcoxonPruner
from optuna.trial import TrialState

from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.evaluate import evaluate_cases


RULES: Mapping[str, Any] = {
    "best only": choose_best,
    'parents="best"': "best",
    "front (GEPA)": draw_front,
    "front, merges": draw_front_with_merges,
    'parents="cases"': "cases",
}


@dataclass(frozen=True)
class Run:
    """What a study came to.

    Attributes:
        score: The best mean score.
        merges: Part of the proposals that were given two parents.
        evaluations: How many cases were evaluated.
        pruned: Part of the trials that were pruned.
    """

    score: float
    merges: float
    evaluations: int
    pruned: float


def run(
    seed: int,
    *,
    kind: str,
    rule: str,
    n_proposals: int,
    skill: Skill = ABLE,
    p_threshold: float | None = None,
) -> Run:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    model = CaseModel(KINDS[kind], skill, seed)
    n_evaluated = 0

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "prompt", model.initial)

        def evaluate(case: int) -> float:
            nonlocal n_evaluated
            n_evaluated += 1
            return model.score(text, case)

        return evaluate_cases(trial, range(N_CASES), evaluate)

    sampler = LLMSampler(model=model, parents=RULES[rule], seed=seed, insights=False)
    pruner: BasePruner = NopPruner()
    if p_threshold is not None:
        # From 14 cases on: for up to 13, SciPy's exact test takes up to a second each time.
        pruner = WilcoxonPruner(p_threshold=p_threshold, n_startup_steps=14)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=n_proposals + 1)
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    return Run(
        study.best_value, model.n_merges / model.n_calls, n_evaluated, len(pruned) / n_proposals
    )


def compare_rules(
    each: Callable[..., list[Run]], skill: Skill, rules: Mapping[str, Any] = RULES
) -> None:
    print(f"\n{'':18}" + "".join(f"{kind:>26}" for kind in KINDS))
    base = {}
    for rule in rules:
        cells = []
        for kind in KINDS:
            runs = each(run, kind=kind, rule=rule, skill=skill)
            score = statistics.fmean(r.score for r in runs)
            error = statistics.stdev(r.score for r in runs) / len(runs) ** 0.5
            merges = statistics.fmean(r.merges for r in runs)
            base.setdefault(kind, score)
            ratio = score / base[kind]
            cells.append(f"{score:10.3f} ±{error:.3f} {ratio:.2f}x {merges:3.0%}")
        print(f"{rule:18}" + "".join(f"{cell:>26}" for cell in cells), flush=True)


def compare_pruners(each: Callable[..., list[Run]]) -> None:
    print("\nWilcoxonPruner:   evaluations, score, trials pruned")
    for kind in KINDS:
        for p_threshold in (None, 0.1, 0.2, 0.4):
            runs = each(run, kind=kind, rule='parents="cases"', p_threshold=p_threshold)
            evaluations = statistics.fmean(r.evaluations for r in runs)
            score = statistics.fmean(r.score for r in runs)
            pruned = statistics.fmean(r.pruned for r in runs)
            name = "none" if p_threshold is None else f"p_threshold={p_threshold}"
            print(f"{kind:12} {name:16} {evaluations:7.0f} {score:7.3f} {pruned:5.0%}", flush=True)


def main() -> None:
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    n_proposals = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    with ProcessPoolExecutor() as pool:

        def each(function: Callable[..., Run], **arguments: Any) -> list[Run]:
            asked = partial(function, n_proposals=n_proposals, **arguments)
            return list(pool.map(asked, range(n_seeds)))

        print(f"Best mean score after {n_proposals} proposals, {n_seeds} seeds; ± standard error,")
        print("ratio to best only, part of the proposals with two parents.")
        compare_rules(each, ABLE)
        print("\nThe same for a model that merges badly:")
        compare_rules(each, CLUMSY)
        compare_pruners(each)


if __name__ == "__main__":
    main()
