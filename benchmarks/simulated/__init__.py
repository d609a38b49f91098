"""The benchmark of searching itself: simulated searches over a formula and over recorded learning curves."""
