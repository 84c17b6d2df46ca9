"""The one way from a sampler to what a study holds, and back."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
import threading
from uuid import uuid4

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._errors import LLMError
from optuna_llm._logging import get_logger
from optuna_llm._outcomes import Outcome
from optuna_llm._quoting import one_line
from optuna_llm._records import Proposal
from optuna_llm._records import Source
from optuna_llm._records import TextParameter
from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored
from optuna_llm._study import declarations
from optuna_llm._study import internals
from optuna_llm._study.cases import find_named_here
from optuna_llm._study.cases import read_case_names
from optuna_llm._study.database import find_marks
from optuna_llm._study.database import Mark
from optuna_llm._study.facts import find_told_here
from optuna_llm._study.facts import read_facts
from optuna_llm._study.facts import StudyFacts
from optuna_llm._study.history import History
from optuna_llm._study.history import name_objectives
from optuna_llm._study.snapshot import StudySnapshot


_logger = get_logger(__name__)


class StudyStore:
    """Reads one study into snapshots, and writes what becomes of its trials; thread-safe.

    The study is handed to each method, so that no storage is kept alive from here.

    Args:
        study: The study.
        task: What it is about; empty for what the study holds.
        models: The configured names of the models that propose here.
    """

    def __init__(self, study: Study, task: str = "", models: Collection[str] = ()) -> None:
        self._objectives = name_objectives(study)
        self._history = History(self._objectives)
        self._task = task
        self._models = models
        self._texts: Mapping[str, TextParameter] | None = None
        self._facts = StudyFacts()
        self._insights: Sequence[str] = ()
        self._case_names: Mapping[int, str] = {}
        self._knows_model = False
        self._latest = self._history.make_snapshot(task, {})
        self._worker = uuid4().hex
        self._lock = threading.Lock()

    @property
    def latest(self) -> StudySnapshot:
        """The last snapshot, without a read of the storage."""
        return self._latest

    def snapshot(self, study: Study, trial: FrozenTrial | None = None) -> StudySnapshot:
        """The study as it is now; one read of its trials.

        Args:
            study: The study.
            trial: A trial that begins in this thread, if the others may be as of then.
        """
        if trial is None:
            trials: Sequence[FrozenTrial] = study.get_trials(deepcopy=False)
        else:
            trials = internals.read_trials(study, trial.datetime_start)
        with self._lock:
            texts = self._read_texts(study)
            if texts.keys() != self._latest.texts.keys():
                # Trials that were added or enqueued by hand may hold texts of that name.
                self._history = History(self._objectives)
            self._history.update(trials, texts.keys(), self._facts.noise or 0.0)
            if not self._history.text_names <= texts.keys():
                self._texts = None
                texts = self._read_texts(study)
            self._latest = self._history.make_snapshot(
                self._task, texts, self._facts, self._insights, self._case_names
            )
            return self._latest

    def find_claimant(
        self, study: Study, trial: FrozenTrial, claim: str
    ) -> tuple[StudySnapshot, int | None]:
        """The study as far as it must be known now, and who else has claimed values in it.

        Trials that have claimed what they take need not be read again for it.

        Args:
            study: The study.
            trial: The trial that has claimed values.
            claim: Their digest.

        Returns:
            The study, and the number of a trial that has claimed the same values and may not be
            in it yet; None if there is none.
        """
        with self._lock:
            snapshot = self._latest
            unfinished, valued = self._history.list_unfinished()
        marks = (claim, stored.CLAIM_MARK)
        found = find_marks(
            study, stored.PROPOSAL, marks, unfinished=unfinished, n_known=snapshot.n_trials
        )
        if found is None:
            return self.snapshot(study), None
        others = [mark for mark in found if mark.number != trial.number]
        if any(_is_unknown(mark) for mark in others if mark.number not in valued):
            return self.snapshot(study), None
        claimants = (mark.number for mark in others if mark.has and mark.has[0])
        return snapshot, min(claimants, default=None)

    def record(
        self,
        study: Study,
        trial: FrozenTrial,
        outcome: Outcome,
        texts: Mapping[str, str],
        *,
        claim: str | None = None,
    ) -> None:
        """Store where a running trial's values come from, and what they have cost.

        Args:
            study: The study.
            trial: The trial, as Optuna has handed it to the sampler.
            outcome: What came of asking for its values.
            texts: The texts that its objective gets if it asks for them.
            claim: Digest of its values.
        """
        if outcome.model and not self._knows_model:
            self._knows_model = True
            self._tell_model(study, outcome.model)
        result = outcome.result
        error = outcome.error or (str(result) if isinstance(result, LLMError) else "")
        known = stored.read_provenance(trial)
        is_used = isinstance(result, Proposal)
        source: Source | None = outcome.source if is_used else None
        proposer = outcome.proposer if source in ("model", "base", "fallback", "tune") else None
        rationale = result.rationale if isinstance(result, Proposal) else ""
        parent = outcome.find_parent()
        usage = outcome.total_usage
        if internals.read_fixed_params(trial) is not None:
            # Of an enqueued or a retried trial, who decided its values, and why.
            source = known.source or "user"
            proposer = known.proposer
            rationale = known.rationale or rationale
            parent = parent if known.parent is None else known.parent
        # A text that the trial has been given as an attribute may be in pieces of any size.
        new = {name: text for name, text in texts.items() if name not in trial.user_attrs}
        provenance = stored.Provenance(
            source=source,
            proposer=proposer,
            rationale=rationale,
            parent=parent,
            second_parent=outcome.find_second_parent(),
            model=outcome.model,
            usage=usage if usage.calls or outcome.source == "model" else None,
            attempts=outcome.attempts if is_used else outcome.list_attempts(),
            error=error,
            claim=claim or known.claim,
            texts={**known.texts, **stored.count_pieces(new)},
        )
        self._write(study, trial, stored.provenance_attributes(provenance))

    def record_user(self, study: Study, trial: FrozenTrial) -> None:
        """Store that the user has set all values of a trial that is about to end."""
        if internals.read_fixed_params(trial) is None or stored.read_source(trial):
            return
        provenance = replace(stored.read_provenance(trial), source="user")
        self._write(study, trial, stored.provenance_attributes(provenance))

    def record_unclaimed(self, study: Study, usage: Mapping[str, Usage]) -> None:
        """Store what proposals of this process have cost that no trial has taken, by model."""
        declarations.write_unclaimed(study, self._worker, usage)

    def record_adaptations(self, study: Study, model: str, changes: Mapping[str, str]) -> None:
        """Store how the requests to a model differ from what the user has set."""
        declarations.write_adaptations(study, model, changes)

    def record_insights(self, study: Study, insights: Sequence[str]) -> None:
        """Store what a model has learned from the trials so far."""
        with self._lock:
            self._insights = tuple(insights)
        declarations.write_insights(study, insights)

    def learn_space(self, trial: FrozenTrial) -> None:
        """Learn the parameters of a trial that ends here, ahead of the next read."""
        with self._lock:
            self._history.learn_space(trial)
            self._latest = replace(self._latest, space=self._history.space)

    def _tell_model(self, study: Study, model: str) -> None:
        """Say if only models that are not at work here have proposed the trials so far."""
        trials = [stored.read_provenance(t) for t in internals.read_trials(study)]
        earlier = {provenance.model for provenance in trials} - {None}
        is_known = any(provenance.proposer in self._models for provenance in trials)
        if earlier and model not in earlier and not is_known:
            _logger.warning(
                "Earlier trials were proposed by %s; %s is shown them and proposes from now on.",
                ", ".join(sorted(one_line(name) for name in earlier if name)),
                one_line(model),
            )

    def _write(self, study: Study, trial: FrozenTrial, attributes: Mapping[str, object]) -> None:
        new = {k: v for k, v in attributes.items() if trial.user_attrs.get(k) != v}
        internals.write_trial_attributes(study, trial, new)

    def _read_texts(self, study: Study) -> Mapping[str, TextParameter]:
        """The declared texts, with the lock held; reads the study only where it may have more."""
        if self._texts is None:
            held = study.user_attrs
            self._read_task(study, declarations.read_task(held))
            self._facts = read_facts(held)
            self._insights = declarations.read_insights(held)
            self._case_names = read_case_names(held)
            self._texts = declarations.read_declared_texts(held)
        self._facts = find_told_here(study) or self._facts
        self._case_names = {**self._case_names, **find_named_here(study)}
        self._texts = {**self._texts, **declarations.find_declared_here(study)}
        return self._texts

    def _read_task(self, study: Study, held: str) -> None:
        if not self._task:
            self._task = held
        elif self._task != held:
            if held:
                _logger.warning(
                    "The study had another task; the sampler's replaces it from now on: %r.",
                    one_line(held, 100),
                )
            declarations.write_task(study, self._task)


def _is_unknown(mark: Mark) -> bool:
    """Whether a trial may have values that it has not claimed."""
    if mark.has is None:
        return mark.is_finished
    return not mark.has[1]
