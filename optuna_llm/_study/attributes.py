"""What a study holds of ours: the only module that knows the storage keys."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import itertools
import json
import re
from typing import Any
from weakref import WeakKeyDictionary

from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_llm._quoting import shorten
from optuna_llm._records import Source
from optuna_llm._records import TextParameter
from optuna_llm._records import Usage


FEEDBACK = "feedback"
PREFIX = "llm:"

_TEXTS = "llm:texts"
_SOURCE = "llm:source"
_RATIONALE = "llm:rationale"
_PARENT = "llm:parent"
_MODEL = "llm:model"
_ERROR = "llm:error"
_CLAIM = "llm:claim"
_TASK = "llm:task"
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
_DECLARATION = "llm:text:"

MAX_BYTES = 60_000
"""What is written into one attribute at most: MySQL holds 65,535 bytes of ASCII JSON."""


def check_text_name(name: str) -> None:
    """Refuse a name that cannot be a user attribute beside ours, or stand in the prompt.

    Raises:
        ValueError: If the name is not usable for a text parameter.
    """
    way_out = "Give the text parameter another name."
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"A text parameter's name must be a string and not empty: {name!r}.")
    if name.startswith(PREFIX) or name == FEEDBACK:
        raise ValueError(f"The name {name!r} is kept for optuna_llm's own attributes. {way_out}")
    if re.search(r":\d+$", name):
        raise ValueError(f"{name!r} reads like a piece of a long text (<name>:1). {way_out}")
    if re.search(r'[<>"\x00-\x1f\x7f\ud800-\udfff]', name):
        raise ValueError(f'{name!r} holds a control character or one of < > ". {way_out}')


def json_bytes(value: object) -> int:
    """Length of the value as a storage writes it: JSON, ASCII only."""
    return len(json.dumps(value))


def text_attributes(texts: Mapping[str, str], present: Mapping[str, Any]) -> dict[str, Any]:
    """The user attributes that hold the texts: their pieces, then the list of what is whole.

    Args:
        texts: Name to text.
        present: The trial's user attributes so far.
    """
    attributes: dict[str, Any] = {}
    counts = dict(present.get(_TEXTS, {}))
    for name, text in texts.items():
        pieces = _split(text)
        # The first piece last: where it is, the text is whole, though its process may have died
        # before it said so in the list.
        keyed = [(_piece_key(name, i), piece) for i, piece in enumerate(pieces)]
        attributes |= dict(reversed(keyed))
        counts[name] = len(pieces)
    return attributes | {_TEXTS: counts}


def read_texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The texts that a trial's user attributes hold."""
    return {
        name: "".join(attributes[_piece_key(name, i)] for i in range(count))
        for name, count in attributes.get(_TEXTS, {}).items()
    }


def read_given_text(attributes: Mapping[str, Any], name: str) -> Any:
    """What stands under a text's name without being in the list of texts; None for nothing.

    Put there by the user, or by a process that died; a trial done again has it too.
    """
    given = attributes.get(name)
    if not isinstance(given, str):
        return given
    pieces = itertools.takewhile(lambda key: key in attributes, _more_keys(name))
    return given + "".join(attributes[key] for key in pieces)


def _more_keys(name: str) -> Iterator[str]:
    return (_piece_key(name, i) for i in itertools.count(1))


def _piece_key(name: str, index: int) -> str:
    return f"{name}:{index}" if index else name


def _split(text: str) -> list[str]:
    """The text in pieces of which each fits into one attribute; at least one piece."""
    pieces: list[str] = []
    start = 0
    while start < len(text) or not pieces:
        size = MAX_BYTES
        while (cost := json_bytes(text[start : start + size])) > MAX_BYTES:
            size = max(1, min(size, len(text) - start) * MAX_BYTES // cost)
        pieces.append(text[start : start + size])
        start += size
    return pieces


def fit_attribute(text: str) -> str:
    """The text, its middle left out where it is too long for one attribute."""
    limit = MAX_BYTES
    fitting = shorten(text, limit)
    while (cost := json_bytes(fitting)) > MAX_BYTES:
        limit = limit * MAX_BYTES // (cost + 1)
        fitting = shorten(text, limit)
    return fitting


_declared: WeakKeyDictionary[Study, dict[str, TextParameter]] = WeakKeyDictionary()
"""What was declared here, so that no trial but the first reads the study's attributes for it."""


def declare_text(study: Study, parameter: TextParameter) -> None:
    """Tell the study of a text parameter, so that a new process knows of it."""
    known = _declared.setdefault(study, {})
    if known.get(parameter.name) == parameter:
        return
    value = {
        "description": parameter.description,
        "language": parameter.language,
        "initial": parameter.initial,
    }
    if json_bytes(value) > MAX_BYTES:
        value["initial"] = None
    if json_bytes(value) > MAX_BYTES:
        raise ValueError(
            f"The description of {parameter.name!r} is too long to be stored: "
            f"{len(parameter.description):,} characters. Say it in fewer words."
        )
    key = _DECLARATION + parameter.name
    if study.user_attrs.get(key) != value:
        study.set_user_attr(key, value)
    known[parameter.name] = parameter


def declared_here(study: Study) -> Mapping[str, TextParameter]:
    """The text parameters that this process has told the study of, by name."""
    return _declared.get(study, {})


def read_declared_texts(attributes: Mapping[str, Any]) -> dict[str, TextParameter]:
    """The text parameters that a study's user attributes tell of, by name."""
    return {
        key.removeprefix(_DECLARATION): TextParameter(key.removeprefix(_DECLARATION), **value)
        for key, value in attributes.items()
        if key.startswith(_DECLARATION)
    }


def write_task(study: Study, task: str) -> None:
    """Tell the study what it is about."""
    study.set_user_attr(_TASK, task)


def read_task(attributes: Mapping[str, Any]) -> str:
    """The task that a study's user attributes hold; empty where there is none."""
    return str(attributes.get(_TASK, ""))


def source_attributes(source: Source) -> dict[str, Any]:
    """The user attribute that says who decided a trial's values."""
    return {_SOURCE: source}


def read_source(attributes: Mapping[str, Any]) -> Source | None:
    """Who decided the trial's values; None where nobody has said yet."""
    source: Source | None = attributes.get(_SOURCE)
    return source


def claim_attributes(claim: str) -> dict[str, Any]:
    """The user attribute that tells other workers which values a trial is about to take."""
    return {_CLAIM: claim}


def read_claim(attributes: Mapping[str, Any]) -> str | None:
    """The values that the trial is about to take, as a digest."""
    claim: str | None = attributes.get(_CLAIM)
    return claim


def error_attributes(error: Exception) -> dict[str, Any]:
    """The user attribute that says why the model's proposal was not used."""
    return {_ERROR: fit_attribute(str(error))}


def proposal_attributes(rationale: str, parent: int | None) -> dict[str, Any]:
    """The user attributes that say what the model thought, and what it began from."""
    attributes: dict[str, Any] = {_RATIONALE: fit_attribute(rationale)} if rationale else {}
    return attributes if parent is None else attributes | {_PARENT: parent}


def cost_attributes(usage: Usage, model: str | None) -> dict[str, Any]:
    """The user attributes that say what a proposal cost; token counts only where known."""
    counts = {PREFIX + name: getattr(usage, name) for name in _TOKENS if getattr(usage, name)}
    names = {} if model is None else {_MODEL: fit_attribute(model)}
    return {**names, **counts, "llm:calls": usage.calls, "llm:seconds": round(usage.seconds, 3)}


def has_cost(attributes: Mapping[str, Any]) -> bool:
    """Whether the trial's proposal is in, or has failed, and what it cost is known."""
    return "llm:calls" in attributes


def read_usage(attributes: Mapping[str, Any]) -> Usage:
    """What the trial has cost so far."""
    names = (*_TOKENS, "calls", "seconds")
    return Usage(**{name: attributes.get(PREFIX + name, 0) for name in names})


def read_model(attributes: Mapping[str, Any]) -> str | None:
    """The model's name as the server reported it."""
    model: str | None = attributes.get(_MODEL)
    return model


def read_feedback(attributes: Mapping[str, Any]) -> str:
    """The evaluator's words; empty where there are none."""
    return str(attributes.get(FEEDBACK, ""))


def read_rationale(attributes: Mapping[str, Any]) -> str:
    """The model's words on why it proposed the trial; empty where there are none."""
    return str(attributes.get(_RATIONALE, ""))


def read_parent(attributes: Mapping[str, Any]) -> int | None:
    """Number of the trial whose texts this one was derived from."""
    parent: int | None = attributes.get(_PARENT)
    return parent


def read_error(attributes: Mapping[str, Any]) -> str:
    """Why the model's proposal was not used; empty where it was."""
    return str(attributes.get(_ERROR, ""))


def read_constraints(trial: FrozenTrial) -> dict[str, float]:
    """The trial's constraint values by name, infeasible above 0."""
    constraints: dict[str, float] | None = getattr(trial, "constraints", None)
    if constraints is not None:
        return constraints
    # Before Optuna 5, what a sampler's constraints_func returned, without names.
    return {str(i): c for i, c in enumerate(trial.system_attrs.get("constraints") or ())}


def write_attributes(study: Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
    """Write user attributes of a running trial, seen at once by its objective.

    Samplers are handed the trial that ``Trial.user_attrs`` reads from: a write through the
    storage alone would stay hidden from the objective.
    """
    for key, value in attributes.items():
        study._storage.set_trial_user_attr(trial._trial_id, key, value)
        trial.user_attrs[key] = value
