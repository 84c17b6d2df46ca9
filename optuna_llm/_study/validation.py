"""What the best trials reach in cases that were held out: the result and its storage format."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import html
import math
import statistics
from typing import Any

from optuna import Study

from optuna_llm._study.checks import is_count
from optuna_llm._study.checks import is_finite
from optuna_llm._study.checks import warn_once
from optuna_llm._study.declarations import VALIDATION


_MAX_TRIALS = 200


@dataclass(frozen=True)
class ValidatedTrial:
    """What one trial reaches in held-out cases.

    Attributes:
        number: The trial's number.
        training: Its objective value in the study; of several objectives, the mean over its cases.
        held_out: Its mean score over the held-out cases.
        standard_error: The standard error of that mean; None of a single case.
        gain: By how much it is better there than the trial that is the best by training, negative
            if worse; 0 for that trial itself.
        gain_error: The standard error of the gain, from the differences case by case.
    """

    number: int
    training: float
    held_out: float
    standard_error: float | None
    gain: float = 0.0
    gain_error: float | None = None


@dataclass(frozen=True)
class Validation:
    """What the best trials reach in held-out cases, the best by training first.

    Its ``str()`` is a table and a verdict, and so is its form in a notebook.

    Attributes:
        n_cases: How many cases were held out.
        trials: The trials.
    """

    n_cases: int
    trials: Sequence[ValidatedTrial]

    @property
    def best(self) -> ValidatedTrial:
        """The trial that is the best in the held-out cases; of equals, the better by training."""
        return max(self.trials, key=lambda trial: trial.gain)

    @property
    def verdict(self) -> str:
        """Which trial to trust, in a sentence or two."""
        first, best = self.trials[0], self.best
        if len(self.trials) == 1:
            return f"Trial {first.number} reaches {first.held_out:.4g} in held-out cases."
        if best is first:
            return f"Trial {first.number}, the best by training, is the best held out too."
        error = "" if best.gain_error is None else f" ± {best.gain_error:.2g}"
        said = (
            f"Trial {first.number} is the best by training, but not held out: trial {best.number} "
            f"is better there by {best.gain:.2g}{error} (standard error)."
        )
        if best.gain_error is None or best.gain < 2 * best.gain_error:
            return f"{said} That may be chance: more cases would tell."
        return f"{said} Trust trial {best.number}."

    def __str__(self) -> str:
        rows = self.make_rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        return "\n".join([*lines, self.verdict])

    def _repr_html_(self) -> str:
        header, *rows = self.make_rows()
        lines = [f"<tr><th>{'</th><th>'.join(header)}</th></tr>"]
        lines += [f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows]
        table = "<table>\n" + "\n".join(lines) + "\n</table>"
        return f"{table}\n<p>{html.escape(self.verdict)}</p>"

    def make_rows(self) -> list[list[str]]:
        """A table: its header, then a row for each trial."""
        header = ["trial", "training", f"held out ({self.n_cases})", "standard error"]
        return [
            header,
            *(
                [
                    str(trial.number),
                    f"{trial.training:.4g}",
                    f"{trial.held_out:.4g}",
                    "" if trial.standard_error is None else f"{trial.standard_error:.2g}",
                ]
                for trial in self.trials
            ),
        ]


def compare(
    trials: Sequence[tuple[int, float]], scores: Sequence[Sequence[float]], sign: int
) -> Validation:
    """The result of a validation.

    Args:
        trials: Number and training value of each trial, the best first.
        scores: Each trial's scores over the same cases.
        sign: 1 if more is better, else -1.
    """
    validated = []
    for (number, training), own in zip(trials, scores, strict=True):
        gains = [sign * (a - b) for a, b in zip(own, scores[0], strict=True)]
        validated.append(
            ValidatedTrial(
                number,
                training,
                statistics.fmean(own),
                _standard_error(own),
                statistics.fmean(gains),
                _standard_error(gains),
            )
        )
    return Validation(len(scores[0]), validated)


def _standard_error(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def write_validation(study: Study, validation: Validation) -> None:
    """Store a validation in place of an earlier one."""
    trials = [
        {name: value for name, value in vars(trial).items() if value is not None}
        for trial in validation.trials[:_MAX_TRIALS]
    ]
    study.set_user_attr(VALIDATION, {"cases": validation.n_cases, "trials": trials})


def read_validation(attributes: Mapping[str, Any]) -> Validation | None:
    """The validation that a study's user attributes hold; None for none that can be read."""
    held = attributes.get(VALIDATION)
    if held is None:
        return None
    trials = held.get("trials") if isinstance(held, Mapping) else None
    if not isinstance(trials, list) or not is_count(held.get("cases")):
        warn_once(VALIDATION, "the study")
        return None
    known = [trial for trial in map(_read_trial, trials[:_MAX_TRIALS]) if trial is not None]
    if len(known) < len(trials):
        warn_once(VALIDATION, "the study")
    return Validation(held["cases"], known) if known else None


def _read_trial(held: object) -> ValidatedTrial | None:
    if not isinstance(held, Mapping) or not is_count(held.get("number")):
        return None
    values: list[Any] = [held.get(name) for name in ("training", "held_out", "gain")]
    errors: list[Any] = [held.get(name) for name in ("standard_error", "gain_error")]
    if not all(map(is_finite, values)):
        return None
    if not all(error is None or (is_finite(error) and error >= 0) for error in errors):
        return None
    training, held_out, gain = values
    return ValidatedTrial(held["number"], training, held_out, errors[0], gain, errors[1])
