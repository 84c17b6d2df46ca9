"""What a study holds of ours, and the only rooms that know how Optuna keeps it."""
