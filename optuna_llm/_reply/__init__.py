"""A model's reply parsed into proposals; pure functions that trust nothing they read."""
