"""The only place that touches private names of Optuna: storage, sampler, ask, pruner, study, dashboard.

docs/design.md lists each of those names and why it is touched; shortcuts.py says whether they may be used.
"""
