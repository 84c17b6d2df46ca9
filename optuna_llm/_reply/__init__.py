"""A model's reply parsed into proposals; pure functions that trust nothing they read."""

from optuna_llm._reply.proposals import parse_reply as parse_reply
