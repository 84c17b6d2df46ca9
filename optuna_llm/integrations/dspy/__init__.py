"""DSPy: a program's instructions as text parameters, and its metric as the objective.

DSPy is installed by ``pip install "optuna-llm[dspy]"``.
"""

try:
    import dspy as _dspy  # noqa: F401
except ImportError as error:
    raise ImportError(
        'optuna_llm.integrations.dspy needs the package dspy: pip install "optuna-llm[dspy]".'
    ) from error

from optuna_llm.integrations.dspy._optimizer import InstructionOptimizer
from optuna_llm.integrations.dspy._program import build_program
from optuna_llm.integrations.dspy._scoring import evaluate_program


__all__ = ["InstructionOptimizer", "build_program", "evaluate_program"]
