"""The records that flow from a study to a model and back."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import Literal
from typing import TypeAlias

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._images import Image
from optuna_llm._images import list_images
from optuna_llm._images import mention_hidden


ParamValue: TypeAlias = float | int | str | bool | None
"""A value of a number parameter; categorical choices make it more than a number."""

Source: TypeAlias = Literal["initial", "model", "base", "fallback", "tune", "user"]
"""Who decided a trial's values."""


@dataclass(frozen=True)
class Message:
    """One message to a model; :meth:`to_dict` is what chat clients take.

    Attributes:
        role: Who says it.
        content: Its text. Where it has images, the text ends with a list of them.
        images: Images that follow the text; only for models that declare ``takes_images``.
    """

    role: Literal["system", "user"]
    content: str
    images: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            # The class has the default: so vars() of a message without images has two entries,
            # and is what chat clients take.
            vars(self).pop("images")

    def to_dict(self) -> dict[str, Any]:
        """The message as chat clients take it: with images, its content is a list of parts."""
        if not self.images:
            return {"role": self.role, "content": self.content}
        parts: list[dict[str, Any]] = [{"type": "text", "text": self.content}]
        parts += [{"type": "image_url", "image_url": {"url": i.url}} for i in self.images]
        return {"role": self.role, "content": parts}

    def to_log(self) -> dict[str, Any]:
        """The message for a log: with a digest in place of each image."""
        images = {"images": [image.digest for image in self.images]} if self.images else {}
        return {"role": self.role, "content": self.content, **images}

    def limit_images(self, count: int) -> Message:
        """The message with so many images at most, its text telling of those left out."""
        if len(self.images) <= count:
            return self
        kept = self.images[:count]
        told = list_images(kept) + mention_hidden(len(self.images) - count)
        text = self.content.removesuffix(list_images(self.images))
        return Message(self.role, text + told, kept)


@dataclass(frozen=True)
class Usage:
    """What calls to a model cost, as the server counted it.

    Attributes:
        prompt_tokens: Tokens sent; 0 where the server does not say.
        cached_tokens: Those of them that the server had in its prefix cache.
        completion_tokens: Tokens received, reasoning included.
        reasoning_tokens: Those of them that were spent on hidden reasoning.
        calls: Number of calls.
        seconds: Time spent waiting for the replies.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    calls: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __sub__(self, other: Usage) -> Usage:
        left = {name: value - getattr(other, name) for name, value in vars(self).items()}
        return Usage(**{name: max(0, value) for name, value in left.items()})


@dataclass(frozen=True)
class Completion:
    """A model's reply.

    Attributes:
        text: The model's words; may be empty.
        model: The model's name as the server reports it; None where it does not.
        usage: Token counts. ``calls`` and ``seconds`` are filled in by who asked.
        is_cut: Whether the reply ended for its length, before its end.
        is_free: Whether a JSON schema was given that the server does not take: nothing bound the
            reply to it.
    """

    text: str
    model: str | None = None
    usage: Usage = field(default_factory=Usage)
    is_cut: bool = False
    is_free: bool = False


@dataclass(frozen=True)
class TextParameter:
    """A free-form parameter, as ``suggest_text`` declares it.

    Attributes:
        name: Its name, also the user attribute that holds its value.
        description: What the text is for, in the user's words.
        language: The language it is written in (``"python"``); None for prose.
        initial: The text of the first trial; None where it is too long to be kept with the
            declaration.
        has_initial: Whether there is an initial text; else the model writes the first one too.
        tunable: Whether numbers in it may be marked as tunable.
    """

    name: str
    description: str = ""
    language: str | None = None
    initial: str | None = None
    has_initial: bool = True
    tunable: bool = False


@dataclass(frozen=True)
class Problem:
    """What is to be optimized; constant over a study, but for parameters found later.

    Attributes:
        task: The user's words on what the study is about.
        objectives: Name and direction of each objective.
        space: The number parameters to be decided: name to distribution.
        texts: The text parameters to be decided.
        conditional: Names of parameters that some trials do without.
        constrained: Whether trials can be infeasible.
        n_proposals: How many proposals a reply is to hold.
        editable: Names of the texts that may be answered with changes to a trial's text.
        edits_only: Whether such a text is not to be sent whole.
        is_json: Whether the reply is to be a JSON object, texts included.
        noise: Standard deviation of the objective at the same values; None if not known.
        best_possible: A bound that no objective value can pass; None if not known.
    """

    task: str
    objectives: Sequence[tuple[str, StudyDirection]]
    space: Mapping[str, BaseDistribution]
    texts: Sequence[TextParameter]
    conditional: frozenset[str] = frozenset()
    constrained: bool = False
    n_proposals: int = 1
    editable: frozenset[str] = frozenset()
    edits_only: bool = False
    is_json: bool = False
    noise: float | None = None
    best_possible: float | None = None

    @property
    def choices(self) -> dict[str, Sequence[ParamValue]]:
        """The choices of the categorical parameters, by name."""
        return {
            name: distribution.choices
            for name, distribution in self.space.items()
            if isinstance(distribution, CategoricalDistribution)
        }


@dataclass(frozen=True)
class Tuning:
    """What a trial holds of the tunables in one of its texts.

    Attributes:
        family: Number of the trial that introduced them.
        values: Their values by name.
    """

    family: int
    values: Mapping[str, ParamValue]


@dataclass(frozen=True)
class CaseResult:
    """What the evaluator found in one case.

    Attributes:
        score: The case's share in the objective, in the same direction.
        words: What it said of it; empty for nothing.
    """

    score: float
    words: str = ""


@dataclass(frozen=True, eq=False)
class TrialRecord:
    """One trial, as the model is shown it. Compared by identity.

    Attributes:
        number: The trial's number in its study, from 0.
        state: COMPLETE, PRUNED, FAIL or RUNNING.
        values: One value per objective; None where the trial has none. Of a pruned trial the
            value last reported.
        params: Values of the number parameters that have more than one value to take.
        texts: Values of the text parameters; where they have tunables, marked with their values.
        tuned: The tunables of its texts, by the text's name; they are not among ``params``.
        step: The last step a pruned trial reported; None where it reported none.
        constraints: Constraint values, infeasible above 0.
        feedback: The evaluator's words.
        rationale: The model's own words on why it proposed the trial.
        parent: Number of the trial whose texts this one was derived from.
        second_parent: Number of a trial that it was to take over from beside it.
        source: Who decided its values; None where nobody has said.
        images: Artifact ids of the images that the evaluator has handed over.
        cases: Results of the cases that it was evaluated on, by the case's number; empty where
            the objective is no mean over cases.
        n_cases: How many cases it was to be evaluated on; None where nobody has said.
        noise: Standard deviation of its value over repeated evaluations of the same values,
            estimated from repeats of its cases; None without repeats.
    """

    number: int
    state: TrialState
    values: tuple[float, ...] | None = None
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    tuned: Mapping[str, Tuning] = field(default_factory=dict)
    step: int | None = None
    constraints: Mapping[str, float] = field(default_factory=dict)
    feedback: str = ""
    rationale: str = ""
    parent: int | None = None
    second_parent: int | None = None
    source: Source | None = None
    images: Sequence[str] = ()
    cases: Mapping[int, CaseResult] = field(default_factory=dict)
    n_cases: int | None = None
    noise: float | None = None

    @property
    def violation(self) -> float:
        """By how much the constraints are violated in total; 0 for a feasible trial."""
        if not self.constraints:
            return 0
        return sum(value for value in self.constraints.values() if value > 0)


@dataclass(frozen=True)
class Proposal:
    """The validated values for one trial that a reply holds.

    Attributes:
        params: Values of the number parameters.
        texts: Values of the text parameters; tunables in them are marked with their values.
        rationale: The model's words on why.
        parent: Number of the trial whose text was edited; None if the texts were sent whole.
        repeats: Number of the trial whose values are to be measured again; None for new values.
        families: Numbers of the trials that have introduced the tunables of a text, by its name;
            without one, it is the trial that takes the proposal.
    """

    params: Mapping[str, ParamValue]
    texts: Mapping[str, str]
    rationale: str = ""
    parent: int | None = None
    repeats: int | None = None
    families: Mapping[str, int] = field(default_factory=dict)
