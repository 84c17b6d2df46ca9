"""Programs of other frameworks, improved by a study; each needs its framework installed."""
