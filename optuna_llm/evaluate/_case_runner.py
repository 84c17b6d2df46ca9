"""Running a user's function over cases: in threads, each within a limit of time."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass
import math
import queue
import statistics
import time
from typing import Any
from typing import TypeAlias

from optuna import TrialPruned

from optuna_llm._cancellation import Cancellation
from optuna_llm._cancellation import start_thread
from optuna_llm._cancellation import take
from optuna_llm._errors import LLMError
from optuna_llm._failures import describe_error


Evaluate: TypeAlias = Callable[[Any], Any]
"""Takes a case; returns its score, or its score and words on it."""


@dataclass(frozen=True)
class CaseRun:
    """What came of one case.

    Attributes:
        case: The case's number.
        score: The mean score of its evaluations; None if one failed.
        words: What was said of the worst of them, or how it failed.
        variance: Variance of the scores of its evaluations; None of a single one.
        error: Why it has no score.
    """

    case: int
    score: float | None = None
    words: str = ""
    variance: float | None = None
    error: BaseException | None = None


class BadResultError(TypeError):
    """What was returned for a case is neither a score nor a score with words."""


@dataclass(frozen=True)
class CaseRunner:
    """Runs one function over cases.

    Attributes:
        cases: The cases by number.
        evaluate: The function.
        higher_is_better: Which of a case's scores is the worst, whose words are kept.
        max_workers: How many cases run at a time.
        timeout: Seconds that one evaluation may take; None for no limit.
        repeats: How often each case is evaluated.
        failed_score: The score of a case that fails; None if it is to have none.
    """

    cases: Mapping[int, Any]
    evaluate: Evaluate
    higher_is_better: bool = True
    max_workers: int = 1
    timeout: float | None = None
    repeats: int = 1
    failed_score: float | None = None

    def run(self, order: Sequence[int]) -> Iterator[CaseRun]:
        """What came of each case, as they end.

        A consumer that stops early closes this: cases in flight are cancelled then, and awaited
        if they cannot be. In the calling thread where neither several workers nor a limit need
        another.
        """
        if self.max_workers == 1 and self.timeout is None:
            return (self._run_case(case) for case in order)
        return self._run_in_threads(order)

    def _run_in_threads(self, order: Sequence[int]) -> Iterator[CaseRun]:
        ended: queue.SimpleQueue[CaseRun] = queue.SimpleQueue()
        running: dict[int, tuple[Cancellation, float]] = {}
        waiting = list(reversed(order))
        limit = math.inf if self.timeout is None else self.timeout * self.repeats
        try:
            while waiting or running:
                while waiting and len(running) < self.max_workers:
                    case = waiting.pop()
                    cancellation = self._start(case, ended)
                    running[case] = (cancellation, time.monotonic() + limit)
                yield self._await_next(running, ended)
        finally:
            for cancellation, _ in running.values():
                cancellation.cancel()
            while running:
                self._await_next(running, ended)

    def _start(self, case: int, ended: queue.SimpleQueue[CaseRun]) -> Cancellation:
        return start_thread(lambda: ended.put(self._run_case(case)), copy_context())

    def _await_next(
        self, running: dict[int, tuple[Cancellation, float]], ended: queue.SimpleQueue[CaseRun]
    ) -> CaseRun:
        """The next case that ends, be it by its limit; its thread is left to itself then."""
        while True:
            case, (cancellation, deadline) = min(running.items(), key=lambda item: item[1][1])
            left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
            try:
                run = take(ended, left)
            except queue.Empty:
                cancellation.cancel()
                del running[case]
                error = TimeoutError(f"Case {case} took longer than {self.timeout:g} seconds.")
                return self._fail(case, error, f"no result within {self.timeout:g} seconds")
            # What ends after its limit has been counted already.
            if running.pop(run.case, None) is not None:
                return run

    def _run_case(self, case: int) -> CaseRun:
        scores: list[float] = []
        said: list[str] = []
        for _ in range(self.repeats):
            try:
                score, words = _read_result(case, self.evaluate(self.cases[case]))
            except (TrialPruned, LLMError, BadResultError) as error:
                # They say nothing of the case.
                return CaseRun(case, error=error)
            except Exception as error:  # noqa: BLE001
                return self._fail(case, error, f"failed: {describe_error(error)}".strip())
            except BaseException as error:
                if self.max_workers == 1 and self.timeout is None:
                    raise
                return CaseRun(case, error=error)
            scores.append(score)
            said.append(words)
        worst = scores.index((min if self.higher_is_better else max)(scores))
        variance = statistics.variance(scores) if len(scores) > 1 else None
        return CaseRun(case, math.fsum(scores) / len(scores), said[worst], variance)

    def _fail(self, case: int, error: Exception, words: str) -> CaseRun:
        if self.failed_score is None:
            return CaseRun(case, words=words, error=error)
        return CaseRun(case, self.failed_score, words)


def _read_result(case: int, result: object) -> tuple[float, str]:
    """The score and the words that were returned for a case.

    Raises:
        BadResultError: If it is neither a number nor a number with a string.
        ValueError: If the score is not finite.
    """
    score, words = result if isinstance(result, tuple) and len(result) == 2 else (result, "")
    if not isinstance(words, str) or isinstance(score, str) or not hasattr(score, "__float__"):
        raise BadResultError(
            f"evaluate returned {result!r:.200} for case {case}: return a score, or a score and "
            "words on it."
        )
    number = float(score)
    if not math.isfinite(number):
        raise ValueError(f"The score is not a finite number: {number}.")
    return number, words


def estimate_noise(variances: Sequence[float], repeats: int, n_cases: int) -> float | None:
    """Standard deviation of a mean over cases that repeating its evaluation would show.

    Args:
        variances: The variances of the scores of some cases.
        repeats: How many scores each case's mean is of.
        n_cases: How many cases the mean is of.
    """
    if not variances:
        return None
    return math.sqrt(math.fsum(variances) / len(variances) / repeats / n_cases)
