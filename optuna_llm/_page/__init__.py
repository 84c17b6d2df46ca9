"""The study page: one page that shows what was tried, why, and what came of it.

The same page is served beside optuna-dashboard, written to a file, and shown in notebooks. Its
front end is bundled into ``assets`` from the sources in the repository's ``frontend`` folder.
"""
