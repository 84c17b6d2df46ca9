"""Evaluating what a model wrote: untrusted programs, texts that a judge rates, cases."""

from optuna_llm._study.validation import ValidatedTrial
from optuna_llm._study.validation import Validation
from optuna_llm.evaluate._cases import evaluate_cases
from optuna_llm.evaluate._function import run_function
from optuna_llm.evaluate._judge import Judge
from optuna_llm.evaluate._judge import parse_score
from optuna_llm.evaluate._judge import Rating
from optuna_llm.evaluate._python import Kept
from optuna_llm.evaluate._python import PythonExecution
from optuna_llm.evaluate._python import run_python
from optuna_llm.evaluate._records import Execution
from optuna_llm.evaluate._records import Limits
from optuna_llm.evaluate._sandbox import SandboxError
from optuna_llm.evaluate._script import run_script
from optuna_llm.evaluate._validate import validate


__all__ = [
    "Execution",
    "Judge",
    "Kept",
    "Limits",
    "PythonExecution",
    "Rating",
    "SandboxError",
    "ValidatedTrial",
    "Validation",
    "evaluate_cases",
    "parse_score",
    "run_function",
    "run_python",
    "run_script",
    "validate",
]
