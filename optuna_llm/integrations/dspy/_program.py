"""A program's instructions as text parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dspy
from optuna.trial import BaseTrial

from optuna_llm._text import suggest_text


_RESERVED = {"self": "instructions", "feedback": "feedback.instructions"}
"""Names of predictors that say nothing, or that no text can have."""


def build_program(program: dspy.Module, trial: BaseTrial) -> dspy.Module:
    """A copy of a program with the instructions that a trial gives its predictors.

    .. code-block:: python

        def objective(trial):
            candidate = build_program(program, trial)
            return evaluate_program(trial, candidate, trainset, metric)

        best = build_program(program, study.best_trial)

    Each predictor's instruction is a text parameter, named as DSPy names the predictor; that of a
    program which is one predictor is ``instructions``. What the program has is the initial text.

    Args:
        program: The program; it is left as it is.
        trial: A running trial, or a finished one of a study of this program.

    Raises:
        ValueError: If the program has no predictor whose instruction could change, or a finished
            trial holds no instruction of one.
        LLMError: If the model gave no text.
    """
    copy = program.deepcopy()
    predictors = name_predictors(copy)
    if not predictors:
        raise ValueError(
            "The program has no predictors, or all are frozen as parts of compiled modules: "
            "there are no instructions to improve."
        )
    for name, predictor in predictors.items():
        signature = predictor.signature
        text = suggest_text(
            trial, name, signature.instructions, description=_describe(name, signature)
        )
        predictor.signature = signature.with_instructions(text)
    return copy


def name_predictors(program: dspy.Module) -> dict[str, Any]:
    """The predictors of a program by the names of their texts."""
    return {_RESERVED.get(name, name): found for name, found in program.named_predictors()}


def _describe(name: str, signature: Any) -> str:
    """What an instruction is for, and what is said of its fields elsewhere in the prompt."""
    step = "the program's only step" if name == _RESERVED["self"] else f"the step {name}"
    parts = [f"The instruction of {step}: {signature.signature}."]
    parts += _describe_fields({**signature.input_fields, **signature.output_fields})
    return " ".join(parts)


def _describe_fields(fields: dict[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        said = (field.json_schema_extra or {}).get("desc") or ""
        # Where nobody has described a field, DSPy does it by its name.
        if said and said != f"${{{name}}}":
            yield f"{name}: {said.rstrip('.')}."
