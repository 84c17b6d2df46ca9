"""Which trials the next one is made of, where the objective is a mean over cases: rules compared.

Run by hand, half an hour:

    python tests/benchmarks/cases_parents.py [seeds [proposals]]

Scripted models of three kinds (``case_models.py``) propose through the real sampler. Printed is
the best mean score over 100 cases, by kind and rule; then the same for a model that merges badly;
then what WilcoxonPruner saves: evaluations up to the same number of proposals, the score after the
same number of evaluations, and evaluations up to the same score.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
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
from case_models import ERRATIC
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
        merges: Part of the proposals that were given two parents.
        pruned: Part of the trials that were pruned.
        curve: After each trial, the number of evaluations so far, and the best mean score.
    """

    merges: float
    pruned: float
    curve: Sequence[tuple[int, float]]

    @property
    def score(self) -> float:
        """The best mean score in the end."""
        return self.curve[-1][1]

    def find_score(self, n_evaluations: int) -> float:
        """The best mean score when so many cases had been evaluated."""
        return [score for count, score in self.curve if count <= n_evaluations][-1]


def run(
    seed: int,
    *,
    kind: str,
    rule: str,
    n_proposals: int,
    skill: Skill = ABLE,
    p_threshold: float | None = None,
    n_evaluations: int | None = None,
) -> Run:
    """A study of so many proposals, or until so many cases have been evaluated."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    model = CaseModel(KINDS[kind], skill, seed)
    n_evaluated = 0
    curve = []

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "prompt", model.initial)

        def evaluate(case: int) -> float:
            nonlocal n_evaluated
            n_evaluated += 1
            return model.score(text, case)

        return evaluate_cases(trial, range(N_CASES), evaluate)

    def follow(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        curve.append((n_evaluated, study.best_value))
        if n_evaluations is not None and n_evaluated >= n_evaluations:
            study.stop()

    sampler = LLMSampler(model=model, parents=RULES[rule], seed=seed, insights=False)
    pruner: BasePruner = NopPruner()
    if p_threshold is not None:
        # From 14 cases on: for up to 13, SciPy's exact test takes up to a second each time.
        pruner = WilcoxonPruner(p_threshold=p_threshold, n_startup_steps=14)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    n_trials = None if n_evaluations else n_proposals + 1
    study.optimize(objective, n_trials=n_trials, callbacks=[follow])
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    return Run(model.n_merges / model.n_calls, len(pruned) / model.n_calls, curve)


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


def compare_pruners(each: Callable[..., list[Run]], n_proposals: int, skill: Skill) -> None:
    """Print what pruning saves: up to the same proposals, and up to the same mean score."""
    print(f"{'':30}{n_proposals} proposals              same evaluations       same score")
    print(f"{'':30}evaluations   score  pruned   score  proposals   evaluations")
    for kind in KINDS:
        whole = (n_proposals + 1) * N_CASES
        target = 0.0
        for p_threshold in (None, 0.1, 0.2, 0.3, 0.4):
            runs = each(
                run,
                kind=kind,
                rule='parents="cases"',
                skill=skill,
                p_threshold=p_threshold,
                n_evaluations=whole,
            )
            counts, scores = zip(*(r.curve[n_proposals] for r in runs), strict=True)
            steps = range(N_CASES, whole + 1, N_CASES // 2)
            means = [statistics.fmean(r.find_score(count) for r in runs) for count in steps]
            target = target or means[-1]
            reached = [n for n, mean in zip(steps, means, strict=True) if mean >= target]
            name = "none" if p_threshold is None else f"p_threshold={p_threshold}"
            print(
                f"{kind:12} {name:16}{statistics.fmean(counts):12,.0f}"
                f"{statistics.fmean(scores):8.3f}{statistics.fmean(r.pruned for r in runs):8.0%}"
                f"{means[-1]:8.3f}{statistics.fmean(len(r.curve) - 1 for r in runs):11.0f}"
                f"{f'{reached[0]:,} ({reached[0] / whole:.0%})' if reached else 'never':>14}",
                flush=True,
            )


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
        print("\nWilcoxonPruner:")
        compare_pruners(each, n_proposals, ABLE)
        print("\nWilcoxonPruner, where half of the proposals are blunders:")
        compare_pruners(each, n_proposals, ERRATIC)


if __name__ == "__main__":
    main()
