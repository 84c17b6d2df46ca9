"""Anybody's proposal: checked as a model's, and enqueued for whichever worker is free next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from optuna import Study

from optuna_llm._errors import ReplyError
from optuna_llm._outcomes import Pass
from optuna_llm._prompt.request import make_problem
from optuna_llm._proposing.claims import check_new
from optuna_llm._proposing.model import find_complete
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._reply.proposals import parse_reply
from optuna_llm._reply.proposals import read_values
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.identity import make_claim
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._study.store import StudyStore


def propose(
    study: Study,
    proposal: str | Mapping[str, Any],
    *,
    rationale: str = "",
    proposer: str = "",
    parent: int | None = None,
) -> int:
    """Enqueue a trial with these values, checked as a model's are.

    The next worker of the study that begins a trial takes it, whatever its sampler. Its source is
    ``user``. The model is told of it as of any other trial.

    .. code-block:: python

        propose(study, {"width": 12, "greeting": "Good morning"}, proposer="Ada")
        propose(study, reply)  # in the form that the model is asked for, or as JSON

    Args:
        study: A study that has had a trial, so that its parameters are known.
        proposal: Values of all parameters by name, texts included; or a reply in the form that
            the prompt asks for. Parameters that some trials do without may be left out.
        rationale: Why, in a sentence; by default what the reply says.
        proposer: The name of who proposes it, stored with the trial.
        parent: Number of the trial whose text these texts are made from; by default the one that
            a reply edits.

    Returns:
        The trial's number.

    Raises:
        ReplyError: If a value is missing, unknown or not allowed, if the reply cannot be read, or
            if a trial has these values already or waits for them.
        TypeError: If the proposal is neither a string nor a mapping.
        ValueError: If no parameter is known yet, or there is no finished trial ``parent``.
    """
    snapshot = StudyStore(study).snapshot(study)
    problem = make_problem(snapshot, space=snapshot.space)
    if not problem.space and not problem.texts:
        raise ValueError(
            "No parameter is known yet, since no trial has asked for one: run a trial first."
        )
    if parent is not None and snapshot.find(parent) is None:
        raise ValueError(f"parent={parent!r} is not the number of a finished trial.")
    found = _read(proposal, snapshot, problem)
    if found.repeats is None:
        check_new(snapshot, found.params, found.texts)
        parent = found.parent if parent is None else parent
    else:
        parent = found.repeats
    provenance = stored.Provenance(
        source="user",
        proposer=proposer.strip() or None,
        rationale=rationale.strip() or found.rationale,
        parent=parent,
        claim=make_claim(found.params, found.texts),
        texts=stored.count_pieces(found.texts),
    )
    attributes = stored.provenance_attributes(provenance)
    for name, text in found.texts.items():
        attributes |= stored.split_text(name, text)
    return internals.enqueue_trial(study, found.params, attributes)


def _read(
    proposal: str | Mapping[str, Any], snapshot: StudySnapshot, problem: Problem
) -> Proposal:
    """The values that are proposed, each of them checked.

    Raises:
        ReplyError: If they cannot be used.
        TypeError: If the proposal is neither a string nor a mapping.
    """
    if isinstance(proposal, Mapping):
        return read_values(proposal, problem)
    if not isinstance(proposal, str):
        raise TypeError(f"A proposal is a mapping of values or a reply as a string: {proposal!r}.")
    problem = replace(
        problem,
        editable=frozenset(text.name for text in problem.texts),
        is_json=proposal.lstrip().startswith("{"),
    )
    find_text = partial(_find_text, snapshot)
    found = parse_reply(proposal, problem, find_text, partial(find_complete, snapshot))
    if isinstance(found, Pass):
        raise ReplyError("the reply passes, so there is nothing to enqueue.")
    return found[0]


def _find_text(snapshot: StudySnapshot, name: str, number: int | None) -> str | None:
    """The text of a finished trial; there is none to start from that all would agree on."""
    record = snapshot.find(number)
    return None if record is None else record.texts.get(name)
