"""The storage format of a study: what its user attributes tell every worker."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import re
import time
from typing import Any
from weakref import WeakKeyDictionary

from optuna import Study

from optuna_llm._logging import get_logger
from optuna_llm._quoting import shorten
from optuna_llm._records import TextParameter
from optuna_llm._records import Usage
from optuna_llm._study.attributes import is_text_name
from optuna_llm._study.attributes import PREFIX
from optuna_llm._study.checks import is_known_key
from optuna_llm._study.checks import is_measure
from optuna_llm._study.checks import read_usage
from optuna_llm._study.checks import warn_once
from optuna_llm._study.checks import write_usage
from optuna_llm._study.internals import check_storage
from optuna_llm._study.sizes import json_bytes
from optuna_llm._study.sizes import MAX_BYTES


_logger = get_logger(__name__)

_TASK = "llm:task"
_TEXT = "llm:text:"
_UNCLAIMED = "llm:unclaimed:"
_ADAPTATIONS = "llm:adaptations"
_INSIGHTS = "llm:insights"
FACTS = "llm:facts"
CASE_NAMES = "llm:cases"
VALIDATION = "llm:validation"
_STOP = "llm:stop"
_MARK = "llm:mark:"
_STUDY_KEYS = (
    _TASK,
    _TEXT,
    _UNCLAIMED,
    _ADAPTATIONS,
    _INSIGHTS,
    FACTS,
    CASE_NAMES,
    VALIDATION,
    _STOP,
    _MARK,
)
"""The keys of a study under our prefix, or what they begin with if they end in a colon."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_MAX_INSIGHTS = 6
_MAX_INSIGHT = 300


def check_task(task: object) -> str:
    """The task, if it can be stored.

    Raises:
        TypeError: If it is not a string.
        ValueError: If it is too long for a user attribute.
    """
    if not isinstance(task, str):
        raise TypeError(f"task must be a string: {task!r}.")
    if json_bytes(task) > MAX_BYTES:
        raise ValueError(f"task is too long to be stored: {len(task):,} characters.")
    return task


def write_task(study: Study, task: str) -> None:
    """Store what the study is about."""
    study.set_user_attr(_TASK, task)


def read_task(attributes: Mapping[str, Any]) -> str:
    """The task that a study's user attributes hold; empty where there is none."""
    task = attributes.get(_TASK, "")
    if isinstance(task, str):
        return task
    _skip(_TASK)
    return ""


_declared: WeakKeyDictionary[Study, dict[str, TextParameter]] = WeakKeyDictionary()
"""What this process has declared, so that only a study's first trial reads its attributes."""

_told: WeakKeyDictionary[Study, set[str]] = WeakKeyDictionary()
"""The texts of which this process has said that the study had another declaration."""


def declare_text(study: Study, parameter: TextParameter) -> None:
    """Store a text parameter with the study, so that other workers know of it.

    Raises:
        ValueError: If its description is too long for a user attribute, or the study's storage
            would not give back a long text.
    """
    known = _declared.setdefault(study, {})
    if known.get(parameter.name) == parameter:
        return
    check_storage(study)
    value: dict[str, Any] = {
        "description": parameter.description,
        "language": parameter.language,
        "initial": parameter.initial,
    }
    if not parameter.has_initial:
        value["has_initial"] = False
    if parameter.tunable:
        value["tunable"] = True
    if json_bytes(value) > MAX_BYTES:
        value["initial"] = None
    if json_bytes(value) > MAX_BYTES:
        raise ValueError(
            f"The description of {parameter.name!r} is too long to be stored: "
            f"{len(parameter.description):,} characters. Shorten it."
        )
    key = _TEXT + parameter.name
    held = study.user_attrs.get(key)
    if held != value:
        study.set_user_attr(key, value)
        _tell_changes(study, parameter.name, held, value)
    known[parameter.name] = parameter


def _tell_changes(study: Study, name: str, held: object, declared: Mapping[str, object]) -> None:
    """Say once what differs from the declaration that a text had in the study before."""
    told = _told.setdefault(study, set())
    if not isinstance(held, Mapping) or name in told:
        return
    told.add(name)
    parts = {"initial": "initial text", "language": "language", "description": "description"}
    changed = [part for key, part in parts.items() if held.get(key) != declared.get(key)]
    if not changed:
        return
    _logger.warning(
        "The study had another %s for the text %r; the new declaration applies from now on.%s",
        " and another ".join(changed),
        name,
        " Its initial text is not tried by itself if the study has such a text already: "
        f"study.enqueue_trial({{{name!r}: …}}) tries it."
        if "initial text" in changed
        else "",
    )


def find_declared_here(study: Study) -> Mapping[str, TextParameter]:
    """The text parameters that this process has declared, by name."""
    return _declared.get(study, {})


def read_declared_texts(attributes: Mapping[str, Any]) -> dict[str, TextParameter]:
    """The text parameters that a study's user attributes hold, by name."""
    declared = {}
    for key, value in attributes.items():
        if key.startswith(_TEXT):
            parameter = _read_parameter(key.removeprefix(_TEXT), value)
            if parameter is None:
                _skip(key)
            else:
                declared[parameter.name] = parameter
        elif key.startswith(PREFIX) and not is_known_key(key, _STUDY_KEYS):
            _skip(key)
    return declared


def _read_parameter(name: str, value: object) -> TextParameter | None:
    if not isinstance(value, Mapping) or not is_text_name(name):
        return None
    description = value.get("description", "")
    language, initial = value.get("language"), value.get("initial")
    if not isinstance(description, str):
        return None
    if not all(part is None or isinstance(part, str) for part in (language, initial)):
        return None
    has_initial = value.get("has_initial") is not False
    tunable = value.get("tunable") is True
    return TextParameter(name, description, language, initial, has_initial, tunable)


def _skip(key: str) -> None:
    warn_once(key, "the study")


def write_unclaimed(study: Study, worker: str, usage: Mapping[str, Usage]) -> None:
    """Store what a worker's proposals have cost that no trial has taken.

    Args:
        study: The study.
        worker: A name that no other worker has.
        usage: Model to usage; replaces what the worker has stored before.
    """
    value = {model: write_usage(spent) for model, spent in usage.items()}
    study.set_user_attr(_UNCLAIMED + worker, value)


def read_unclaimed(attributes: Mapping[str, Any]) -> list[tuple[str, Usage]]:
    """Model and usage of the proposals that no trial has taken, of all workers."""
    found = []
    for key, value in attributes.items():
        if key.startswith(_UNCLAIMED):
            for model, usage in _read_object(key, value).items():
                if isinstance(usage, Mapping):
                    skip = functools.partial(_skip_field, f"{key}: {model}")
                    found.append((model, read_usage(usage, skip)))
                else:
                    _skip(f"{key}: {model}")
    return found


def write_adaptations(study: Study, model: str, adaptations: Mapping[str, str]) -> None:
    """Store how the requests to a model differ from what the user has set."""
    known = read_adaptations(study.user_attrs)
    if known.get(model) != adaptations:
        study.set_user_attr(_ADAPTATIONS, {**known, model: dict(adaptations)})


def read_adaptations(attributes: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Model to what was changed in its requests: parameter to verdict, in words."""
    found: dict[str, dict[str, str]] = {}
    for model, changes in _read_object(_ADAPTATIONS, attributes.get(_ADAPTATIONS, {})).items():
        if not isinstance(changes, Mapping):
            _skip(f"{_ADAPTATIONS}: {model}")
            continue
        found[model] = {name: words for name, words in changes.items() if isinstance(words, str)}
        if len(found[model]) < len(changes):
            _skip(f"{_ADAPTATIONS}: {model}")
    return found


def _read_object(key: str, value: object) -> Mapping[str, Any]:
    """The JSON object stored under a key; empty if there is something else."""
    if isinstance(value, Mapping):
        return value
    _skip(key)
    return {}


def _skip_field(where: str, name: str) -> None:
    _skip(f"{where}: {name}")


def write_insights(study: Study, insights: Sequence[str]) -> None:
    """Store what a model has learned from the trials so far, in place of what was stored."""
    lines = [shorten(line, _MAX_INSIGHT) for line in insights[:_MAX_INSIGHTS]]
    study.set_user_attr(_INSIGHTS, lines)


def read_insights(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """What a model has learned from the trials so far, a line each."""
    held = attributes.get(_INSIGHTS, [])
    if not isinstance(held, list) or not all(isinstance(line, str) for line in held):
        _skip(_INSIGHTS)
        return ()
    return tuple(held[:_MAX_INSIGHTS])


def write_stop(study: Study) -> None:
    """Ask all workers to stop after the trials that run now."""
    study.set_user_attr(_STOP, time.time())


def read_stop(attributes: Mapping[str, Any]) -> float | None:
    """When workers were last asked to stop, in seconds since the epoch; None if never."""
    held = attributes.get(_STOP)
    if held is None or is_measure(held):
        return held
    _skip(_STOP)
    return None


def write_mark(study: Study, number: int, is_marked: bool) -> None:
    """Mark a trial for who looks at the study, or take its mark away."""
    study.set_user_attr(f"{_MARK}{number}", is_marked)


def read_marks(attributes: Mapping[str, Any]) -> list[int]:
    """Numbers of the marked trials."""
    marked = (key for key, held in attributes.items() if key.startswith(_MARK) and held is True)
    names = (key.removeprefix(_MARK) for key in marked)
    return sorted(int(name) for name in names if _NUMBER.fullmatch(name))
