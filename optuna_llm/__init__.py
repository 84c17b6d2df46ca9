"""Optuna studies that a language model drives: numbers, text and code in one search space."""

from __future__ import annotations

import importlib
from typing import Any
from typing import TYPE_CHECKING

from optuna_llm import models
from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import NeverAnsweredError
from optuna_llm._errors import ReplyError
from optuna_llm._failures import explain_failures
from optuna_llm._images import Image
from optuna_llm._proposing.credit import Candidate
from optuna_llm._records import CaseResult
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import TrialRecord
from optuna_llm._records import Usage
from optuna_llm._sampler import LLMSampler
from optuna_llm._study.charge import report_usage
from optuna_llm._study.facts import describe_study
from optuna_llm._study.turns import Turn
from optuna_llm._text import get_texts
from optuna_llm._text import report_case
from optuna_llm._text import report_feedback
from optuna_llm._text import suggest_text
from optuna_llm.models import ChatModel


if TYPE_CHECKING:
    from optuna_llm._fixing import fix_text
    from optuna_llm._proposing.enqueue import propose
    from optuna_llm._study.usage import Prices
    from optuna_llm._study.usage import StudyUsage
    from optuna_llm._study.usage import usage
    from optuna_llm.models import CommandModel
    from optuna_llm.models import OfflineModel
    from optuna_llm.models import OpenAIModel

__version__ = "0.2.0"

__all__ = [
    "Candidate",
    "CaseResult",
    "ChatModel",
    "CommandModel",
    "Completion",
    "ContextLengthError",
    "Image",
    "LLMError",
    "LLMSampler",
    "Message",
    "ModelError",
    "ModelSetupError",
    "NeverAnsweredError",
    "OfflineModel",
    "OpenAIModel",
    "Prices",
    "ReplyError",
    "StudyUsage",
    "TrialRecord",
    "Turn",
    "Usage",
    "describe_study",
    "explain_failures",
    "fix_text",
    "get_texts",
    "propose",
    "report_case",
    "report_feedback",
    "report_usage",
    "suggest_text",
    "usage",
]


def __getattr__(name: str) -> Any:
    # Imported when they are asked for: a study needs one of the models at most, and few the rest.
    if name in ("Prices", "StudyUsage", "usage"):
        return getattr(importlib.import_module("optuna_llm._study.usage"), name)
    if name == "fix_text":
        return importlib.import_module("optuna_llm._fixing").fix_text
    if name == "propose":
        return getattr(importlib.import_module("optuna_llm._proposing.enqueue"), name)
    if name in ("CommandModel", "OfflineModel", "OpenAIModel"):
        return getattr(models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
