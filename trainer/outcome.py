"""The records that a training hands out: one after each epoch, one at its end.

Plain values, free of torch. Made by trainer/loop.py, stored by search/recording/ and search/training/.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """One epoch: losses in nats, accuracy 0..1, the epoch's last learning rate.

    seconds covers training and validation; images_per_second counts training images over training time.
    """

    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float
    balanced_accuracy: float | None = None  # of validation images, as macro_f1; None in records of before
    macro_f1: float | None = None
    own_score: float | None = None  # of a function that was given, 0..1; None without one


@dataclass(frozen=True)
class Outcome:
    """A finished training: last-epoch validation accuracy and loss, and the best accuracy of any epoch.

    balanced_accuracy and macro_f1 are of the last epoch; None in records of before. own_score is too; None
    without a function of the user's.
    """

    accuracy: float
    best_accuracy: float
    loss: float
    epochs: int
    seconds: float
    images_per_second: float
    validation_images: int
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    own_score: float | None = None
