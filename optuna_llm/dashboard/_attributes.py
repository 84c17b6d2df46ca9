"""Attributes as the dashboard's pages show them: in a few words, and links to the study page.

The dashboard shows an attribute on a single line, or in a table cell of unlimited size. Programs
and JSON objects of a few kB make its pages unreadable, and all of them are sent with each page.
And it draws the scores of cases as a learning curve, which they are not; of many trials with many
cases that takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import json
import re
from typing import Any
from typing import TYPE_CHECKING

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from optuna_llm._quoting import one_line
from optuna_llm._records import Usage
from optuna_llm._study import internals
from optuna_llm._study.attributes import CASES
from optuna_llm._study.attributes import PROPOSAL
from optuna_llm._study.attributes import read_provenance
from optuna_llm._study.declarations import read_adaptations
from optuna_llm._study.declarations import read_declared_texts
from optuna_llm._study.declarations import read_unclaimed
from optuna_llm.dashboard._links import link_pages
from optuna_llm.dashboard._notes import describe_parents


if TYPE_CHECKING:
    from wsgiref.types import StartResponse
    from wsgiref.types import WSGIApplication
    from wsgiref.types import WSGIEnvironment

_STUDY = re.compile(r"/api/studies/(\d{1,18})/?")
_MAX_SHOWN = 100
_N_KEPT = 60


def abridge_attributes(app: WSGIApplication, storage: BaseStorage) -> WSGIApplication:
    """The dashboard's application, with long attributes abridged and the study page linked.

    The scores of cases are left to the notes and the study page. What is stored and what is
    downloaded stays complete.

    Args:
        app: The application.
        storage: What it shows.
    """

    def abridged(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found = _STUDY.fullmatch(environ.get("PATH_INFO", ""))
        if not found or environ.get("REQUEST_METHOD") != "GET":
            return app(environ, start_response)
        begun: list[Any] = []
        answer = app(environ, lambda *args: begun.append(args))  # type: ignore[arg-type]
        body = b"".join(answer)
        status, headers, *rest = begun[-1]
        if status.startswith("200"):
            study = _abridge(json.loads(body), storage, int(found[1]))
            link_pages(study, int(found[1]))
            body = json.dumps(study).encode()
            headers = [(k, v) for k, v in headers if k.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start_response(status, headers, *rest)
        return [body]

    return abridged


def _abridge(study: dict[str, Any], storage: BaseStorage, study_id: int) -> dict[str, Any]:
    """A study as the dashboard's API returns it, with its attributes abridged in place."""
    # Read from the storage, since the API truncates JSON at 1,024 characters.
    attributes = storage.get_study_user_attrs(study_id)
    for shown in study["user_attrs"]:
        key = shown["key"]
        words = _describe_study_attribute(key, attributes.get(key))
        shown["value"] = _cut(words or shown["value"])
    trials = {
        internals.find_trial_id(trial): trial
        for trial in storage.get_all_trials(study_id, deepcopy=False)
    }
    for entry in [*study["trials"], *study["best_trials"]]:
        trial = trials.get(entry["trial_id"])
        for shown in entry["user_attrs"]:
            words = _describe_trial_attribute(shown["key"], trial) if trial else ""
            shown["value"] = _cut(words or shown["value"])
        if trial and CASES in trial.user_attrs:
            entry["intermediate_values"] = []
    study["has_intermediate_values"] = any(
        trial.intermediate_values and CASES not in trial.user_attrs for trial in trials.values()
    )
    return study


def _cut(value: str) -> str:
    if len(value) <= _MAX_SHOWN and "\n" not in value.strip():
        return value
    return f"{value[:_N_KEPT]} [… {len(value):,} characters]"


def _describe_study_attribute(key: str, value: Any) -> str:
    """A study's attribute in words; empty if it is no object of this package."""
    own = {key: value}
    if texts := read_declared_texts(own).values():
        return one_line(
            "; ".join(f"{text.language or 'text'}: {text.description}" for text in texts),
            _MAX_SHOWN,
        )
    if unclaimed := read_unclaimed(own):
        return _describe_usage(sum((usage for _, usage in unclaimed), Usage()))
    changes = [
        f"{model}: {parameter} {change}"
        for model, adaptations in read_adaptations(own).items()
        for parameter, change in adaptations.items()
    ]
    return one_line("; ".join(changes), _MAX_SHOWN)


def _describe_trial_attribute(key: str, trial: FrozenTrial) -> str:
    """A trial's attribute in words; empty if it is no object of this package."""
    if key == PROPOSAL:
        return one_line(", ".join(_describe_proposal(trial)), _MAX_SHOWN)
    return ""


def _describe_proposal(trial: FrozenTrial) -> Iterator[str]:
    provenance = read_provenance(trial)
    yield provenance.source or "no source"
    if provenance.model:
        yield provenance.model[:_N_KEPT]
    if parents := describe_parents(provenance):
        yield parents
    if provenance.usage is not None:
        yield _describe_usage(provenance.usage)


def _describe_usage(usage: Usage) -> str:
    calls = f"{usage.calls} call" + ("s" if usage.calls != 1 else "")
    tokens = usage.prompt_tokens + usage.completion_tokens
    return f"{calls}, {tokens:,} tokens" if tokens else calls
