"""Rows: studies, candidates, epochs and the leases of those who work. Knows neither optuna nor torch."""
