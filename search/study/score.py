"""The score that a search maximises: accuracy, one that counts each class alike, or the user's function.

Part of a study's configuration (`--score`). The ledger keeps it beside accuracy where it is another; Optuna,
its pruner included, hears of it alone. Reads and writes nothing, and loads no torch. Called by whoever writes
down what was trained, and by all that say what a search maximises. What the scores are stands in
trainer/class_scores.py.
"""

from typing import Final, Literal

from storage.row_types import Scored
from trainer.outcome import EpochReport, Outcome

ScoreName = Literal["accuracy", "balanced-accuracy", "macro-f1", "own"]
NAMES: Final[tuple[ScoreName, ...]] = ("accuracy", "balanced-accuracy", "macro-f1")  # that --score takes

WORDS: Final[dict[ScoreName, str]] = {
    "accuracy": "accuracy",
    "balanced-accuracy": "balanced accuracy",
    "macro-f1": "macro F1",
    "own": "own score",  # search/study/own_score.py
}
FIELDS: Final[dict[ScoreName, str]] = {  # of an epoch's report, of an outcome, and of result.json
    "accuracy": "accuracy",
    "balanced-accuracy": "balanced_accuracy",
    "macro-f1": "macro_f1",
    "own": "own_score",
}


def beside_accuracy(name: ScoreName, trained: EpochReport | Outcome) -> float | None:
    """What the ledger keeps beside the accuracy, 0..1: None where it is accuracy that is maximised."""
    if name == "accuracy":
        return None
    found: float | None = getattr(trained, FIELDS[name])
    assert found is not None, "a training of before there was a choice, in a study that chooses"
    return found


def both(name: ScoreName, trained: Scored | None) -> str:
    """Score and accuracy for people: 81.20%, or macro F1 75.10%, accuracy 81.20%; a dash for nothing."""
    if trained is None or trained.accuracy is None:
        return "-"
    accuracy = f"{100 * trained.accuracy:.2f}%"
    if trained.score is None:
        return accuracy
    return f"{WORDS[name]} {100 * trained.score:.2f}%, accuracy {accuracy}"
