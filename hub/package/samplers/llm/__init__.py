"""The package of optuna_llm in the registry of OptunaHub."""

from optuna_llm import describe_study
from optuna_llm import explain_failures
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import report_feedback
from optuna_llm import suggest_text


__all__ = [
    "LLMError",
    "LLMSampler",
    "describe_study",
    "explain_failures",
    "get_texts",
    "report_feedback",
    "suggest_text",
]
