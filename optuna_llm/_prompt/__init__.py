"""Records rendered as the two messages that a model is asked with; pure functions."""
