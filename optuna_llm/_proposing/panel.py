"""The models of a study: one is asked, and where it fails the next."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
import math
import threading

from optuna import Study

from optuna_llm._cancellation import current
from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import NeverAnsweredError
from optuna_llm._logging import get_logger
from optuna_llm._outcomes import Outcome
from optuna_llm._outcomes import Pass
from optuna_llm._prompt.builder import Prompt
from optuna_llm._prompt.builder import PromptBuilder
from optuna_llm._prompt.request import Request
from optuna_llm._proposing.edits import EditPolicy
from optuna_llm._proposing.form import FormPolicy
from optuna_llm._proposing.images import ImageLoader
from optuna_llm._proposing.log import CallLog
from optuna_llm._proposing.model import ModelProposer
from optuna_llm._proposing.protocol import Accept
from optuna_llm._proposing.settings import Settings
from optuna_llm._records import Proposal
from optuna_llm._study.artifacts import ImageReader
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._study.store import StudyStore
from optuna_llm.models._chat import takes_schema
from optuna_llm.models._circumstances import calling


_logger = get_logger(__name__)

_SHARED_PATIENCE = 20.0
"""Seconds for which a server's temporary faults are waited out while another model is left."""


class ModelPanel:
    """Asks a study's models, each with its own prompts, form, limits and faults; thread-safe.

    Args:
        settings: The sampler's.
        slots: For each model, what is entered for a call to it.
        study: The study's name, for the log of calls.
    """

    def __init__(
        self,
        settings: Settings,
        slots: Mapping[str, AbstractContextManager[object]],
        study: str,
    ) -> None:
        reader = ImageReader(settings.artifact_store)
        log = CallLog(settings.log_file, study)
        self._proposers = {
            name: ModelProposer(
                name,
                model,
                PromptBuilder(
                    settings.templates,
                    settings.history,
                    settings.max_prompt_tokens,
                    insights=settings.insights,
                ),
                edits=EditPolicy(settings.edits),
                form=FormPolicy(
                    settings.structured,
                    takes_schema=takes_schema(model),
                    max_retries=settings.max_reply_retries,
                ),
                images=ImageLoader(model, reader),
                slots=slots[name],
                log=log,
            )
            for name, model in settings.models.items()
        }
        self._models = settings.models
        self._adaptations: dict[str, Mapping[str, str]] = {}
        self._refused: set[str] = set()
        self._lock = threading.Lock()

    def propose(
        self, snapshot: StudySnapshot, request: Request, accept: Accept, order: Sequence[str]
    ) -> Outcome:
        """A proposal of the first model that has one, or why the last has none.

        A model that passes is not followed by another: it has read what there is to read.

        Args:
            snapshot: The study.
            request: What is asked for.
            accept: Accepts the proposal, or refuses it with the reason.
            order: Names of the models, in the order in which they are asked.
        """
        left = [name for name in order if name not in self._refused] or list(order)
        error: LLMError | None = None
        outcome: Outcome | None = None
        for name in left:
            if outcome is not None:
                _logger.warning("%s The model %s is asked.", outcome.result, name)
            outcome = self._ask(name, snapshot, request, accept, outcome, is_last=name == left[-1])
            if isinstance(outcome.result, Proposal | Pass):
                return outcome
            if not isinstance(outcome.result, ModelSetupError):
                error = outcome.result
            elif not isinstance(outcome.result, NeverAnsweredError):
                self._note_refusal(name, outcome.result)
            if current().is_cancelled:
                break
        assert outcome is not None
        if isinstance(outcome.result, ModelSetupError) and error is not None:
            # The setup of another is fine: it may answer a later trial.
            return replace(outcome, result=error)
        return outcome

    def preview(self, snapshot: StudySnapshot, request: Request, name: str) -> Prompt:
        """What the next call to a model would send, without a trace in later prompts."""
        return self._proposers[name].preview(snapshot, request)

    def record_adaptations(self, study: Study, store: StudyStore) -> None:
        """Store how requests differ from what the user has set, where that is news."""
        for name, model in self._models.items():
            adaptations: Mapping[str, str] = getattr(model, "adaptations", {})
            if adaptations != self._adaptations.get(name, {}):
                self._adaptations[name] = dict(adaptations)
                store.record_adaptations(study, name, adaptations)

    def _ask(
        self,
        name: str,
        snapshot: StudySnapshot,
        request: Request,
        accept: Accept,
        before: Outcome | None,
        *,
        is_last: bool,
    ) -> Outcome:
        """What comes of asking one model, beside what those before it have cost."""
        attempts = () if before is None else before.list_attempts()

        def accept_as_next(outcome: Outcome, others: Sequence[Proposal]) -> None:
            accept(replace(outcome, attempts=attempts), others)

        with calling(request.number, math.inf if is_last else _SHARED_PATIENCE):
            outcome = self._proposers[name].propose(snapshot, request, accept_as_next)
        return replace(outcome, attempts=attempts)

    def _note_refusal(self, name: str, error: ModelSetupError) -> None:
        with self._lock:
            is_new = name not in self._refused
            self._refused.add(name)
        if is_new and len(self._proposers) > 1:
            _logger.error("%s The model %s is left out from now on.", error, name)
