"""What a trial holds of the tunables in its texts: the marked text, and a parameter for each."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping

from optuna.trial import FrozenTrial

from optuna_llm._records import Tuning
from optuna_llm._study.attributes import HasAttributes
from optuna_llm._study.attributes import MAX_PIECES
from optuna_llm._study.attributes import split_text
from optuna_llm._study.attributes import take_pieces
from optuna_llm._study.attributes import TEMPLATE
from optuna_llm._study.checks import warn_once
from optuna_llm._tunables import find_tunables
from optuna_llm._tunables import ParamName
from optuna_llm._tunables import read_param_name
from optuna_llm._tunables import TunableError


def split_template(name: str, marked: str) -> dict[str, str]:
    """The user attributes that hold a marked text, in the order in which they are written."""
    return split_text(TEMPLATE + name, marked)


def read_template(trial: HasAttributes, name: str) -> str | None:
    """A text of the trial with its tunables marked; None where it has none that can be read."""
    key = TEMPLATE + name
    if trial.user_attrs.get(key) is None:
        return None
    marked = "".join(take_pieces(trial, key, MAX_PIECES).values())
    try:
        if find_tunables(marked):
            return marked
    except TunableError:
        pass
    warn_once(key, f"trial {trial.number}")
    return None


def mark_texts(trial: HasAttributes, texts: Mapping[str, str]) -> Mapping[str, str]:
    """Texts of a trial, those that have tunables with these marked."""
    if not _has_templates(trial):
        return texts
    return {name: read_template(trial, name) or text for name, text in texts.items()}


def read_tunings(trial: FrozenTrial, texts: Mapping[str, str]) -> dict[str, Tuning]:
    """The tunables of those texts of a trial that have any, by the text's name.

    Args:
        trial: The trial.
        texts: Its texts with their tunables marked.
    """
    families: dict[str, dict[str, int]] = {}
    for known in find_params(trial, trial.params).values():
        families.setdefault(known.text, {})[known.tunable] = known.family
    found = {}
    for name, numbers in families.items():
        values = {t.name: t.value for t in find_tunables(texts.get(name, ""))}
        if values and values.keys() == numbers.keys() and len(set(numbers.values())) == 1:
            found[name] = Tuning(next(iter(numbers.values())), values)
    return found


def find_params(trial: HasAttributes, names: Collection[str]) -> dict[str, ParamName]:
    """Those parameters of a trial that stand for tunables, by the parameter's name."""
    if not _has_templates(trial):
        return {}
    known = {name: read_param_name(name) for name in names}
    return {n: p for n, p in known.items() if p and TEMPLATE + p.text in trial.user_attrs}


def _has_templates(trial: HasAttributes) -> bool:
    return any(key.startswith(TEMPLATE) for key in trial.user_attrs)
