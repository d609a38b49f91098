"""Trains networks: architecture, recipe and data in, outcome out. Knows neither optuna nor a database."""
