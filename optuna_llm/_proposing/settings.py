"""What a sampler is set to, as far as proposing goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optuna_llm._prompt.choice import HistoryPolicy
from optuna_llm._prompt.parents import ParentPolicy
from optuna_llm._prompt.parents import ParentRule
from optuna_llm._prompt.templates import Templates
from optuna_llm._proposing.edits import Edits
from optuna_llm._proposing.form import Structured
from optuna_llm.models import ChatModel


if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore


@dataclass(frozen=True)
class Settings:
    """The arguments of :class:`LLMSampler` that proposers and prompts depend on."""

    task: str
    model: ChatModel
    seed: int
    templates: Templates
    history: HistoryPolicy
    parents: ParentRule | ParentPolicy
    max_prompt_tokens: int | None
    max_reply_retries: int
    prefetch: int
    proposals_per_call: int
    max_concurrent_calls: int | None
    edits: Edits
    structured: Structured
    insights: bool
    log_file: Path | None
    artifact_store: ArtifactStore | None
