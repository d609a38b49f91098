"""Full trainings: training to the end, the sealed test, confirming, predicting. Knows no Optuna."""
