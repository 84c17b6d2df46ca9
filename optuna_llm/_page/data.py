"""A study as its page shows it, kept up to date by reading what is new."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
import threading
import time
from typing import Any
from uuid import uuid4

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._page.rows import describe_cost
from optuna_llm._page.rows import describe_trial
from optuna_llm._page.rows import encode
from optuna_llm._page.rows import is_settled
from optuna_llm._page.rows import make_row
from optuna_llm._page.rows import matches
from optuna_llm._page.rows import write_json
from optuna_llm._records import TextParameter
from optuna_llm._study.cases import read_case_names
from optuna_llm._study.declarations import read_declared_texts
from optuna_llm._study.declarations import read_insights
from optuna_llm._study.declarations import read_marks
from optuna_llm._study.declarations import read_stop
from optuna_llm._study.declarations import read_task
from optuna_llm._study.declarations import read_unclaimed
from optuna_llm._study.facts import read_facts
from optuna_llm._study.history import name_objectives
from optuna_llm._study.ledger import TrialCost
from optuna_llm._study.usage import Prices


_MAX_WORDS = 20


class PageData:
    """The data of one study's page; thread-safe.

    Finished trials are read once. However many viewers ask, the storage is read at most once
    within ``max_age``.

    Args:
        study: The study.
        prices: The models' prices.
        max_age: For how many seconds what was read counts as current.
    """

    def __init__(
        self,
        study: Study,
        prices: Prices | Mapping[str, Prices] | None = None,
        max_age: float = 0.0,
    ) -> None:
        self._study = study
        self._prices = prices
        self._max_age = max_age
        self._objectives = name_objectives(study)
        self._epoch = uuid4().hex[:12]
        self._version = 0
        self._overview = ""
        self._rows: list[str] = []
        self._versions: list[int] = []
        self._settled: list[bool] = []
        self._trials: Sequence[FrozenTrial] = ()
        self._texts: Mapping[str, TextParameter] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def write_changes(self, since: str = "") -> str | None:
        """The study and the rows that have changed, as JSON; None where nothing has.

        Args:
            since: The version that the page has, as a former answer named it; all rows are sent
                if it is not of this object.
        """
        with self._lock:
            self._refresh()
            epoch, _, number = since.partition("-")
            known = int(number) if epoch == self._epoch and number.isdecimal() else 0
            if known == self._version:
                return None
            rows = [row for row, v in zip(self._rows, self._versions, strict=True) if v > known]
            return (
                f'{{"version":"{self._epoch}-{self._version}","whole":{str(not known).lower()},'
                f'"study":{self._overview},"trials":[{",".join(rows)}]}}'
            )

    def describe_trials(self) -> list[dict[str, Any]]:
        """All of each trial, by number."""
        trials, texts = self._read()
        return [describe_trial(trial, texts) for trial in trials]

    def describe_trial(self, number: int) -> dict[str, Any]:
        """All of one trial.

        Raises:
            KeyError: If there is none of this number.
        """
        trials, texts = self._read()
        if not 0 <= number < len(trials):
            raise KeyError(number)
        return describe_trial(trials[number], texts)

    def search(self, query: str) -> list[int]:
        """Numbers of the trials that contain all words of a query in what was said of them."""
        trials, texts = self._read()
        words = query.lower().split()[:_MAX_WORDS]
        return [trial.number for trial in trials if matches(trial, words, texts)]

    def _read(self) -> tuple[Sequence[FrozenTrial], list[str]]:
        with self._lock:
            self._refresh()
            return self._trials, list(self._texts)

    def _refresh(self) -> None:
        """Read the study if what is known of it is too old; with the lock held."""
        if time.monotonic() - self._read_at < self._max_age:
            return
        trials = self._study.get_trials(deepcopy=False)
        attributes = self._study.user_attrs
        self._trials = trials
        self._texts = read_declared_texts(attributes)
        version = self._version + 1
        overview = write_json(self._describe_study(attributes))
        if overview != self._overview:
            self._overview, self._version = overview, version
        for trial in trials:
            number = trial.number
            if number < len(self._rows) and self._settled[number]:
                continue
            row = write_json(make_row(trial, trials, self._prices))
            if number == len(self._rows):
                self._rows.append("")
                self._versions.append(0)
                self._settled.append(False)
            self._settled[number] = is_settled(trial)
            if row != self._rows[number]:
                self._rows[number], self._versions[number] = row, version
                self._version = version
        self._read_at = time.monotonic()

    def _describe_study(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        unclaimed = [
            describe_cost(TrialCost(None, "unclaimed", model, spent), self._prices)
            for model, spent in read_unclaimed(attributes)
            if spent.calls
        ]
        facts = asdict(read_facts(attributes))
        return {
            "name": self._study.study_name,
            "task": read_task(attributes),
            "objectives": [
                {"name": name, "direction": direction.name.lower()}
                for name, direction in self._objectives
            ],
            "facts": {name: encode(value) for name, value in facts.items() if value is not None},
            "texts": {
                name: {"language": text.language, "description": text.description}
                for name, text in self._texts.items()
            },
            "insights": read_insights(attributes),
            "cases": read_case_names(attributes),
            "marks": read_marks(attributes),
            "stop": read_stop(attributes),
            "unclaimed": unclaimed,
        }
