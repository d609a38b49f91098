"""The only place that touches private names of Optuna: storage, sampler, ask, pruner, study, dashboard."""
