"""The benchmark of search itself: simulated searches over a formula and over real learning curves."""
