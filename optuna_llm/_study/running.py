"""What a sampler hands to a trial that runs here, and what is written to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.trial import Trial

from optuna_llm._records import Proposal
from optuna_llm._records import Source
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals


_RELATIVE = "llm:text:"
_FAMILY = _RELATIVE + "\n"  # No text has such a name.


def pack_texts(proposal: Proposal) -> dict[str, Any]:
    """Texts as a sampler hands them to the objective, among the relative parameters.

    Only those that the objective asks for are stored. No number parameter has such a name.
    """
    texts = {_RELATIVE + name: text for name, text in proposal.texts.items()}
    return {**texts, **{_FAMILY + name: n for name, n in proposal.families.items()}}


def unpack_text(params: Mapping[str, Any], name: str) -> tuple[str | None, int | None]:
    """The text of a name that a sampler has handed over, and its family; None without one."""
    return params.get(_RELATIVE + name), params.get(_FAMILY + name)


def store_text(trial: Trial, name: str, pieces: Mapping[str, str], source: Source | None) -> None:
    """Store the pieces of a text, after what the sampler has not told of it.

    Args:
        trial: The trial.
        name: The text's name.
        pieces: Its pieces by key, in the order in which they are written.
        source: Who has decided the text, if that says more than who has decided the numbers.
    """
    known = stored.read_provenance(trial)
    is_more = source is not None and known.source in (None, "base")
    told = replace(
        known,
        source=source if is_more else known.source,
        texts={**known.texts, name: len(pieces)},
    )
    attributes = {} if told == known else stored.provenance_attributes(told)
    store_new(trial, {**attributes, **pieces})


def store_new(trial: Trial, attributes: Mapping[str, object]) -> None:
    """Store the attributes that the trial does not have yet, in this order."""
    held = trial.user_attrs
    for key, value in attributes.items():
        if held.get(key) != value:
            trial.set_user_attr(key, value)


def asks_models(trial: Trial) -> bool:
    """Whether the trial's sampler is an :class:`LLMSampler`."""
    return hasattr(internals.find_sampler(trial), "artifact_store")
