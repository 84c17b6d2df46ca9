"""A program run over examples, each of them a case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import inspect
import random
import threading
from typing import Any
from typing import TypeAlias

import dspy
from dspy.utils import exceptions as faults
from optuna.trial import BaseTrial
from optuna.trial import Trial

from optuna_llm._errors import LLMError
from optuna_llm._quoting import one_line
from optuna_llm._quoting import shorten
from optuna_llm._records import Usage
from optuna_llm._study.charge import charge
from optuna_llm._text import report_feedback
from optuna_llm.evaluate._cases import evaluate_cases
from optuna_llm.integrations.dspy._lm import read_spent
from optuna_llm.integrations.dspy._lm import translate
from optuna_llm.integrations.dspy._program import name_predictors


Metric: TypeAlias = Callable[..., Any]
"""A metric of DSPy: takes an example and a prediction; returns a score, or a score and words."""

_MAX_NAME = 80
_MAX_VALUE = 60
_MAX_WORDS = 400
_MAX_SHOWN = 3
_MAX_RUN = 480


def evaluate_program(
    trial: BaseTrial,
    program: dspy.Module,
    examples: Sequence[dspy.Example],
    metric: Metric,
    *,
    num_threads: int | None = None,
    failure_score: float = 0.0,
) -> float:
    """The mean of a metric over examples, each of them a case of the trial.

    .. code-block:: python

        def objective(trial):
            candidate = build_program(program, trial)
            temperature = trial.suggest_float("temperature", 0, 1)
            candidate.set_lm(lm.copy(temperature=temperature))
            return evaluate_program(trial, candidate, trainset, metric)

    The model that proposes is told in which examples a trial gains and loses, and of three of the
    worst what each step gave. Tokens that DSPy counts are added to the trial's, under the source
    ``evaluation``; replies from DSPy's cache count none.

    Args:
        trial: The running trial. Of a trial of another kind the mean is computed, and nothing is
            reported.
        program: The program, as a rule from :func:`build_program`.
        examples: The examples, with their inputs marked. One that has the same inputs as in an
            earlier trial is the same case, whatever its place.
        metric: Takes an example and a prediction; returns a score, higher is better, or a
            ``dspy.Prediction`` or a mapping with ``score`` and ``feedback``. The metrics of
            ``dspy.GEPA`` are such; what else they take is None.
        num_threads: How many examples run at a time; by default as many as DSPy is set to.
        failure_score: The score of an example in which the program or the metric raises.

    Raises:
        ValueError: If there are no examples, or their inputs are not marked.
        TrialPruned: If the pruner says so.
        ModelError: If a language model of the program cannot be reached; that is no score.
        RuntimeError: If each of the examples raised: the last exception is its cause.
    """
    runner = ExampleRunner(program, metric, failure_score)
    threads = dspy.settings.num_threads if num_threads is None else num_threads
    try:
        value = evaluate_cases(trial, name_examples(examples), runner, max_workers=threads)
    finally:
        if isinstance(trial, Trial):
            _report(trial, runner)
    if runner.error is not None and runner.n_raised == len(examples):
        raise RuntimeError("The program or the metric raised in each example.") from runner.error
    return value


def name_examples(examples: Iterable[dspy.Example]) -> dict[str, dspy.Example]:
    """Examples by names that their inputs give them.

    Raises:
        ValueError: If the inputs of one are not marked.
    """
    named: dict[str, dspy.Example] = {}
    seen: Counter[str] = Counter()
    for example in examples:
        values = ", ".join(one_line(str(value), _MAX_NAME) for value in example.inputs().values())
        name = one_line(values, _MAX_NAME) or "example"
        seen[name] += 1
        while (full := f"{name} #{seen[name]}" if seen[name] > 1 else name) in named:
            seen[name] += 1
        named[full] = example
    return named


@dataclass(frozen=True)
class _Run:
    """What came of one example.

    Attributes:
        inputs: The example's inputs, in words.
        score: Its score.
        steps: What each step of the program gave, in words.
        wanted: What was wanted, in words; empty where the metric has said it.
        feedback: What the metric said, or how the program failed.
    """

    inputs: str
    score: float
    steps: Sequence[str]
    wanted: str
    feedback: str

    def describe(self) -> str:
        """What the model is told of it, where there is room for several lines."""
        lines = [f"Score {self.score:.4g}: {self.inputs}", *self.steps]
        lines += [f"Wanted: {self.wanted}"] if self.wanted else []
        lines += [self.feedback] if self.feedback else []
        return shorten("\n".join(lines), _MAX_RUN)


class ExampleRunner:
    """Runs one program over examples; called from several threads.

    Args:
        program: The program.
        metric: Its metric.
        failure_score: The score of an example that raises.

    Attributes:
        runs: What came of the examples.
        spent: What language models have spent, by name.
        n_raised: In how many examples the program or the metric raised.
        error: What was raised last.
    """

    def __init__(self, program: dspy.Module, metric: Metric, failure_score: float) -> None:
        self.runs: list[_Run] = []
        self.spent: dict[str, Usage] = {}
        self.n_raised = 0
        self.error: Exception | None = None
        self._program = program
        self._names = {id(found): name for name, found in name_predictors(program).items()}
        self._metric = metric
        self._padding = [None] * _count_further(metric)
        self._failure_score = failure_score
        self._lock = threading.Lock()

    def __call__(self, example: dspy.Example) -> tuple[float, str]:
        """The example's score, and words on it.

        Raises:
            ModelError: If a language model cannot be reached.
        """
        trace: list[Any] = []
        with dspy.track_usage() as tracker:
            try:
                score, wanted, said, gave = self._try(example, trace)
            finally:
                self._add_spent(read_spent(tracker.usage_data))
        steps = [_write_step(self._names.get(id(p), "a step"), gave) for p, _, gave in trace]
        inputs = _write_fields(example.inputs())
        words = "; ".join(filter(None, [gave, wanted and f"wanted {wanted}", said]))
        with self._lock:
            self.runs.append(_Run(inputs, score, steps, wanted, said))
        return score, shorten(words, _MAX_WORDS)

    def _try(self, example: dspy.Example, trace: list[Any]) -> tuple[float, str, str, str]:
        """An example's score, what was wanted, what is said of it, and what the program gave."""
        gave = ""
        try:
            with dspy.context(trace=trace):
                prediction = self._program(**example.inputs())
            gave = _write_fields(prediction)
            with dspy.context(trace=[]):
                score, said = _read_result(self._metric(example, prediction, *self._padding))
        except faults.ContextWindowExceededError:
            return self._failure_score, "", "The prompt is longer than the model accepts.", gave
        except faults.LMError as error:
            raise translate(error) from error
        except faults.AdapterParseError as error:
            answer = one_line(str(error.lm_response), _MAX_WORDS)
            said = f"The answer does not have the form that the program asks for: {answer}"
            return self._failure_score, "", said, gave
        except LLMError:
            raise  # Of a model of this package, such as a judge; that is no score.
        except Exception as error:  # noqa: BLE001
            with self._lock:
                self.n_raised += 1
                self.error = error
            return self._failure_score, "", f"Raised {type(error).__name__}: {error}", gave
        # What the metric says of an example, it says as it wants to; else the labels tell.
        wanted = "" if said or score >= 1 else _write_fields(example.labels())
        return score, wanted, said, gave

    def _add_spent(self, spent: Mapping[str, Usage]) -> None:
        with self._lock:
            for name, usage in spent.items():
                self.spent[name] = self.spent.get(name, Usage()) + usage


def _report(trial: Trial, runner: ExampleRunner) -> None:
    """Tell a running trial what its program has spent, and of some of the worst examples."""
    for name, spent in runner.spent.items():
        charge(trial, name, spent)
    # Of those as bad as others any, but on a rerun the same, in whatever order they ended: the
    # history is to show more than always the same.
    runs = sorted(runner.runs, key=lambda run: run.inputs)
    random.Random(trial.number).shuffle(runs)
    runs.sort(key=lambda run: run.score)
    best = max((run.score for run in runs), default=0.0)
    worst = [run.describe() for run in runs[:_MAX_SHOWN] if run.score < max(best, 1.0)]
    if worst:
        report_feedback(trial, "\n\n".join(["Some of the worst examples:", *worst]))


def _count_further(metric: Metric) -> int:
    """How many arguments a metric must be given beside an example and a prediction."""
    try:
        parameters = inspect.signature(metric).parameters.values()
    except (TypeError, ValueError):  # Some callables written in C have no signature.
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return max(0, len(needed) - 2)


def _read_result(result: object) -> tuple[float, str]:
    """The score and the words that a metric has returned.

    Raises:
        TypeError: If it is neither.
        ValueError: Likewise.
    """
    if isinstance(result, dspy.Prediction | Mapping):
        said = result.get("feedback")
        return float(result["score"]), "" if said is None else str(said)
    return float(result), ""  # type: ignore[arg-type]


def _write_step(name: str, gave: Any) -> str:
    return f"{name} gave {_write_fields(gave)}"


def _write_fields(fields: Any) -> str:
    """Fields and their values in a line, each value shortened."""
    return ", ".join(_list_fields(fields))


def _list_fields(fields: Any) -> Iterator[str]:
    items = fields.items() if hasattr(fields, "items") else [("result", fields)]
    for name, value in items:
        yield f"{name} = {one_line(str(value), _MAX_VALUE)!r}"
