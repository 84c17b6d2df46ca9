"""Record a model's replies for the quickstart: OPTUNA_LLM_MODEL=… python examples/record.py."""

import os

from quickstart import REPLIES
from quickstart import run

from optuna_llm.models import ReplayModel


if __name__ == "__main__":
    model = os.environ.get("OPTUNA_LLM_MODEL")
    if not model:
        raise SystemExit("Name the model to record in OPTUNA_LLM_MODEL.")
    fresh = REPLIES.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    run(ReplayModel(fresh, model), storage=None)
    fresh.replace(REPLIES)
