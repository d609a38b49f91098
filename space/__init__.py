"""What a network is, what it costs and which ones may be proposed. Knows neither torch nor optuna."""
