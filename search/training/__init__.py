"""Full training: training to the end, the test set, confirmation, prediction. Never imports Optuna."""
