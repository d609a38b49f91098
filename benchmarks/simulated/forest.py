"""Extremely randomised trees (Geurts, Ernst, Wehenkel 2006) that predict one row in under a millisecond.

scikit-learn grows the trees; their nodes are laid out in arrays, and one row walks down all trees at once.
Called by benchmarks/simulated/worlds.py, thousands of times a simulated search.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Forest:
    """Trees side by side: (trees, nodes) of feature, threshold, left and right child, (trees, nodes, outputs)
    of values. `out_of_bag` are the predictions for the training rows by trees that did not see them."""

    feature: NDArray[np.int64]
    threshold: Array
    children: NDArray[np.int64]
    value: Array
    depth: int
    out_of_bag: Array

    @classmethod
    def fitted(cls, x: Array, y: Array, seed: int, trees: int = 200) -> "Forest":
        from sklearn.ensemble import ExtraTreesRegressor

        scale = y.std(axis=0) + 1e-9
        model = ExtraTreesRegressor(
            trees,
            max_features=0.7,
            min_samples_leaf=2,
            bootstrap=True,
            oob_score=True,
            random_state=seed,
            n_jobs=1,
        ).fit(x, y / scale)
        grown = [tree.tree_ for tree in model.estimators_]
        nodes, outputs = max(tree.node_count for tree in grown), y.shape[1]
        feature = np.full((trees, nodes), -1, dtype=np.int64)
        threshold, children = np.zeros((trees, nodes)), np.zeros((trees, nodes, 2), dtype=np.int64)
        value = np.zeros((trees, nodes, outputs))
        for i, tree in enumerate(grown):
            count = tree.node_count
            feature[i, :count], threshold[i, :count] = tree.feature, tree.threshold
            children[i, :count, 0], children[i, :count, 1] = tree.children_left, tree.children_right
            value[i, :count] = tree.value[:, :, 0] * scale
        depth = max(tree.max_depth for tree in grown)
        return cls(feature, threshold, children, value, depth, model.oob_prediction_ * scale)

    def predict(self, row: Array) -> Array:
        """One row of features in, the mean over the trees out."""
        trees = np.arange(len(self.feature))
        node = np.zeros(len(trees), dtype=np.int64)
        # scikit-learn compares in single precision; so do we, or rows on a threshold part ways.
        row = row.astype(np.float32).astype(np.float64)
        for _ in range(self.depth):
            asked = self.feature[trees, node]
            inner = asked >= 0
            if not inner.any():
                break
            right = row[np.maximum(asked, 0)] > self.threshold[trees, node]
            node = np.where(inner, self.children[trees, node, right.astype(np.int64)], node)
        return np.asarray(self.value[trees, node].mean(axis=0))


def quality(truth: Array, predicted: Array) -> dict[str, float]:
    """How well predictions out of the bag agree: share of variance, rank correlation, error in points."""
    from scipy.stats import kendalltau, spearmanr

    error = truth - predicted
    return {
        "r2": float(1 - error.var() / truth.var()),
        "spearman": float(spearmanr(truth, predicted).statistic),
        "kendall": float(kendalltau(truth, predicted).statistic),
        "mean_absolute_error": float(np.abs(error).mean()),
    }
