"""The tunables in a running trial's text: each becomes a parameter of the trial."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import BaseTrial
from optuna.trial import Trial

from optuna_llm._records import ParamValue
from optuna_llm._records import Source
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study import tunings
from optuna_llm._study.families import identify_skeleton
from optuna_llm._study.running import asks_models
from optuna_llm._study.running import store_new
from optuna_llm._study.running import store_text
from optuna_llm._tunables import fill
from optuna_llm._tunables import find_tunables
from optuna_llm._tunables import ParamName
from optuna_llm._tunables import read_param_name
from optuna_llm._tunables import render
from optuna_llm._tunables import Tunable
from optuna_llm._tunables import TunableError


def check_tunables(name: str, text: str) -> Sequence[Tunable]:
    """The tunables of a text.

    Raises:
        ValueError: If one is malformed.
    """
    try:
        return find_tunables(text)
    except TunableError as error:
        raise ValueError(f"The text {name!r}: {error}") from None


def settle_tunables(
    trial: BaseTrial,
    name: str,
    text: str,
    source: Source | None = None,
    family: int | None = None,
) -> str:
    """The text with a value in place of each tunable, which becomes a parameter of the trial.

    Args:
        trial: The trial.
        name: The text's name.
        text: The text, marked or as the trial has stored it.
        source: Who has decided the text, as for :func:`store_text`.
        family: The trial that has introduced its tunables; None for this one.
    """
    if not isinstance(trial, Trial):
        return render(text) if check_tunables(name, text) else text
    marked = tunings.read_template(trial, name) or text
    found = check_tunables(name, marked)
    known = {**trial.params, **internals.read_given_params(trial)}
    numbers = [p.family for p in map(read_param_name, known) if p and p.text == name]
    number = numbers[0] if numbers else trial.number if family is None else family
    # Where a sampler knows nothing of texts, it has the tunables to decide.
    is_free = source == "initial" and not asks_models(trial)
    if found:
        # First, since the parameters are known as tunables by it.
        store_new(trial, tunings.split_template(name, marked))
        values = {
            t.name: _suggest(trial, ParamName(name, t.name, number), t, is_free=is_free)
            for t in found
        }
        marked = fill(marked, values)
        store_new(trial, tunings.split_template(name, marked))
        text = render(marked)
    store_text(trial, name, stored.split_text(name, text), source)
    return text


def _suggest(trial: Trial, param: ParamName, tunable: Tunable, *, is_free: bool) -> ParamValue:
    if not is_free:
        internals.fix_param(trial, str(param), tunable.value)
    taken = tunable.distribution
    if isinstance(taken, FloatDistribution):
        return trial.suggest_float(str(param), taken.low, taken.high, log=taken.log)
    if isinstance(taken, IntDistribution):
        return trial.suggest_int(str(param), taken.low, taken.high, log=taken.log)
    assert isinstance(taken, CategoricalDistribution)
    return trial.suggest_categorical(str(param), taken.choices)


def find_initial_family(trial: Trial, name: str, initial: str) -> int:
    """Trial 0, whoever is the first to try the initial text, unless that has another one."""
    if trial.number == 0:
        return 0
    first = internals.read_trials(trial.study)[0]
    marked = tunings.read_template(first, name)
    is_other = marked is not None and identify_skeleton(marked) != identify_skeleton(initial)
    return trial.number if is_other else 0
