"""An optimizer of DSPy's kind, which runs a study."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
import warnings

import dspy
from dspy.teleprompt import Teleprompter
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import WilcoxonPruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._failures import explain_failures
from optuna_llm._sampler import LLMSampler
from optuna_llm._study import internals
from optuna_llm._study.facts import describe_study
from optuna_llm._study.validation import Validation
from optuna_llm.evaluate._validate import validate
from optuna_llm.integrations.dspy._lm import LMModel
from optuna_llm.integrations.dspy._program import build_program
from optuna_llm.integrations.dspy._scoring import evaluate_program
from optuna_llm.integrations.dspy._scoring import ExampleRunner
from optuna_llm.integrations.dspy._scoring import Metric
from optuna_llm.models import ModelsLike


_TASK = """\
Improve the instructions of a program that is run by language models (DSPy). Each instruction \
stands in the prompt of one step of the program; the names of its fields, their values and the \
form of the answer stand there already. The score is the metric {metric}, averaged over \
examples. The program will be used on others, so do not answer single examples in an instruction.\
"""


class InstructionOptimizer(Teleprompter):  # type: ignore[misc]
    """Improves the instructions of a DSPy program, as DSPy's own optimizers do.

    .. code-block:: python

        import dspy
        from optuna_llm.integrations.dspy import InstructionOptimizer

        dspy.configure(lm=dspy.LM("openai/…"))
        optimizer = InstructionOptimizer(metric, model=dspy.LM("openai/…"), num_trials=40)
        better = optimizer.compile(program, trainset=trainset, valset=valset)
        better.save("better.json")
        print(optimizer.validation)

    It runs a study in which each predictor's instruction is a text parameter and each example of
    ``trainset`` a case. With a study of your own it can be stored, watched, resumed and shared by
    several processes; numbers can be searched beside the instructions with :func:`build_program`
    and :func:`evaluate_program`.

    Args:
        metric: As for :func:`evaluate_program`.
        model: The model that writes instructions, as for :class:`LLMSampler`, or a ``dspy.LM``.
        num_trials: Number of trials, the program as it is included.
        num_threads: As for :func:`evaluate_program`.
        failure_score: Likewise.
        top: How many of the best trials are scored on ``valset``.
        task: What the program is for, in words for the model; added to what it is told anyway.
        seed: As for :class:`LLMSampler`.
        study: A study of your own, which maximizes; its sampler then names the model. By default
            one in memory, with a :class:`~optuna.pruners.WilcoxonPruner`.
        callbacks: As for :meth:`optuna.study.Study.optimize`.

    Attributes:
        study: The study of the last :meth:`compile`.
        validation: What its best trials reached on ``valset``; None without one.

    Raises:
        TypeError: If ``metric`` is not callable.
        ValueError: If a number is out of range, a study does not maximize one objective, or both
            a study and a model are given.
    """

    def __init__(
        self,
        metric: Metric,
        *,
        model: ModelsLike | dspy.LM = None,
        num_trials: int = 30,
        num_threads: int | None = None,
        failure_score: float = 0.0,
        top: int = 5,
        task: str = "",
        seed: int | None = None,
        study: optuna.Study | None = None,
        callbacks: Sequence[Callable[[optuna.Study, FrozenTrial], None]] = (),
    ) -> None:
        super().__init__()
        if not callable(metric):
            raise TypeError(
                f"metric must be a function of an example and a prediction: {metric!r}."
            )
        for name, value in (("num_trials", num_trials), ("top", top)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an int of 1 or more: {value!r}.")
        if study is not None and study.directions != [StudyDirection.MAXIMIZE]:
            raise ValueError('The study must maximize one objective: direction="maximize".')
        if study is not None and (model is not None or task):
            raise ValueError("A study has its own sampler: name model and task there, not here.")
        self.metric = metric
        self.study = study
        self.validation: Validation | None = None
        self._model = _wrap_lms(model)
        self._num_trials = num_trials
        self._num_threads = num_threads
        self._failure_score = failure_score
        self._top = top
        self._task = task
        self._seed = seed
        self._given = study
        self._callbacks = list(callbacks)

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        teacher: dspy.Module | None = None,
        valset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        """A copy of the program with the best instructions that were found.

        Args:
            student: The program; it is left as it is.
            trainset: The examples that each trial is scored on, and the model is told of.
            teacher: Not used; None.
            valset: Held-out examples, on which the best trials are scored at the end. The best of
                them there is taken; without them, the best on ``trainset``.

        Raises:
            ValueError: If there are no examples, a teacher is given, or the program has no
                instructions.
            LLMError: If a model cannot be reached in the first trial, or is set up wrongly.
            RuntimeError: If the program or the metric raises in each example of the first trial.
        """
        if teacher is not None:
            raise ValueError("InstructionOptimizer takes no teacher.")
        if not trainset:
            raise ValueError("trainset must have at least one example.")
        study = self.study = self._given or self._make_study()
        self.validation = None
        study.optimize(
            self._make_objective(study, student, trainset),
            self._num_trials,
            catch=Exception,
            callbacks=self._callbacks,
        )
        number = study.best_trial.number
        if valset:
            self.validation = self._validate(study, student, valset)
            number = self.validation.best.number
        return build_program(student, study.get_trials(deepcopy=False)[number])

    def _make_study(self) -> optuna.Study:
        """A study in memory, whose model is told what it is about."""
        metric = getattr(self.metric, "__name__", type(self.metric).__name__)
        task = "\n\n".join(filter(None, [self._task, _TASK.format(metric=metric)]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            pruner = WilcoxonPruner()
        sampler = LLMSampler(task, model=self._model, seed=self._seed)
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        describe_study(study, n_trials=self._num_trials)
        return study

    def _make_objective(
        self, study: optuna.Study, student: dspy.Module, trainset: Sequence[dspy.Example]
    ) -> Callable[[optuna.Trial], float]:
        def score(trial: optuna.Trial) -> float:
            candidate = build_program(student, trial)
            return evaluate_program(
                trial,
                candidate,
                trainset,
                self.metric,
                num_threads=self._num_threads,
                failure_score=self._failure_score,
            )

        @explain_failures
        def objective(trial: optuna.Trial) -> float:
            try:
                return score(trial)
            except optuna.TrialPruned:
                raise
            except Exception as error:
                # Where the program has not even run as it is, there is nothing to improve.
                if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                    internals.end_optimize(study, error)
                raise

        return objective

    def _validate(
        self, study: optuna.Study, student: dspy.Module, valset: Sequence[dspy.Example]
    ) -> Validation:
        runners: dict[int, ExampleRunner] = {}

        def score(trial: FrozenTrial, example: dspy.Example) -> tuple[float, str]:
            if trial.number not in runners:
                candidate = build_program(student, trial)
                runners[trial.number] = ExampleRunner(candidate, self.metric, self._failure_score)
            return runners[trial.number](example)

        threads = self._num_threads or dspy.settings.num_threads
        return validate(study, valset, score, top=self._top, max_workers=threads)


def _wrap_lms(model: Any) -> Any:
    """The model or models, those of DSPy as this package's."""
    if isinstance(model, Mapping):
        return {name: _wrap_lms(found) for name, found in model.items()}
    if isinstance(model, list | tuple):
        return [_wrap_lms(found) for found in model]
    return LMModel(model) if isinstance(model, dspy.BaseLM) else model
