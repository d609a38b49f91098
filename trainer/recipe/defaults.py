"""The default recipes: how to train on a data set for so many epochs on so many images, unless told.

Called by search/launcher/prepare.py (brief trainings), search/study/full_training.py (full ones and rungs)
and the commands that show a recipe before there is a study. Reads and writes nothing. Free of torch.

Networks are trained by Muon. Two things follow from how long a training is; docs/recipe.md has the figures.
The batch: a training that sees few images, all epochs together, is given smaller batches, as it is the number
of steps that it lacks. And augmentation: a training that sees an image a few times underfits, and what keeps
one from overfitting that sees it often only slows it down.
"""

import math
from collections.abc import Collection

from trainer.recipe.document import MIXING, MOST_PADDING, Recipe

BRIEF_EPOCHS = 8
STEPS = 500  # of a training at least, as far as smaller batches give them
BATCHES = (128, 64, 32, 16)
AUGMENTED_EPOCHS = 12  # from which on images are shifted and mirrored, however few they are
ALIGNED_EPOCHS = 100  # from which on images are shifted that all fill their frame in one way: it makes others
ALIGNED_MIRRORED = 30  # epochs, from which on these are mirrored, if what they show is known by name
OF_ALIGNED = (
    f"shifted in trainings of {ALIGNED_EPOCHS} epochs or more alone, never mixed, unless a --recipe says so"
)
MIXED_EPOCHS = 100  # from which on pictures are mixed too
MIXUP, CUTMIX = 0.2, 1.0  # by turns; alphas as in the papers (arXiv 1710.09412, 1905.04899)
LARGE_EPOCHS, LARGE = 8, 300_000  # and of pictures, if so many are seen in all: networks are large then
SIDE, SHIFT = 32, 1 / 8  # pixels; the part of a side by which images are shifted: 4 pixels of 32, as is usual
ALIGNED_BY_NAME = ("mnist", "fashion-mnist")
TIED = ("optimizer", "learning_rate", "batch_size")  # chosen for each other


def default_recipe(
    data_spec: str,
    epochs: int,
    images: int | None = None,
    side: int | None = None,
    aligned: bool | None = None,
) -> Recipe:
    """For a data set by its name in trainer/data/catalogue.py or a spec like folder:PATH, trained for
    `epochs` on so many training images of `side` pixels; None: so many that nothing is adapted to them, and
    the side that such images have otherwise. `aligned`: what trainer/data/alignment.py says of them; None:
    what is known by the name.

    They differ by what a data set needs. Colour or grey, images are normalised by what is measured on the
    training images.
    """
    padding = _padding(data_spec, side)
    if data_spec == "digits":
        # By SGD, 1,150 images, three networks of 0.4-1.6 million MACs, three splits each: 96.7% in 1.1 s, one
        # thread. Peak 0.2: 94.6%; 0.1: 84.7%; batch 32 at 0.2: 96.9% in 1.7 s; 4 epochs: 92.1%; 8 epochs:
        # 96.6%. By Muon and SGD, [2,2,2] of 98,782 parameters: 96.9 and 94.9%; [1,1,1], pre-activated: 98.0
        # and 97.3% (three seeds, 500 validation images).
        return Recipe(
            optimizer="muon",
            epochs=epochs,
            batch_size=64,
            learning_rate=0.4,
            crop_padding=padding,
            flip=False,
        )
    batch = _batch(images * epochs if images else None)
    # CIFAR-10 (JPEG), brief trainings of four networks by SGD, peak 0.2 against 0.4, batches of 128: 62.3 and
    # 67.2% (15,000 images, 6 epochs); 46.0 and 52.5%, 48.9 and 51.3%, 46.3 and 50.3% (7,680 images, 4
    # epochs). 0.8 is no better. Smaller batches: by the root of their size.
    rate = round(0.4 * (batch / BATCHES[0]) ** 0.5, 2)
    is_aligned = data_spec in ALIGNED_BY_NAME if aligned is None else aligned
    shifted = images is None or _is_shifted(is_aligned, epochs, images)
    mirrored = shifted or (is_aligned and epochs >= ALIGNED_MIRRORED)
    mixed = epochs >= MIXED_EPOCHS and not is_aligned and data_spec != "svhn"
    return Recipe(
        optimizer="muon",
        epochs=epochs,
        batch_size=batch,
        learning_rate=rate,
        crop_padding=padding if shifted else 0,
        flip=mirrored and _is_mirrored(data_spec),
        mixup=MIXUP if mixed else 0.0,
        cutmix=CUTMIX if mixed else 0.0,
    )


def brief_recipe(
    data_spec: str,
    images: int | None = None,
    epochs: int | None = None,
    side: int | None = None,
    aligned: bool | None = None,
) -> Recipe:
    """That of a trial: 8 epochs unless said; 6 of digits, which are small, and SVHN, which is large."""
    return default_recipe(data_spec, epochs or brief_epochs(data_spec), images, side, aligned)


def brief_epochs(data_spec: str) -> int:
    """Of a trial, unless told."""
    return 6 if data_spec in ("digits", "svhn") else BRIEF_EPOCHS


def adapted(recipe: Recipe, usual: Recipe, now: Recipe, written: Collection[str] = ()) -> Recipe:
    """A recipe for trainings whose default is `now`, out of one for trainings whose default was `usual`.

    What it left at its defaults becomes what is default now; what somebody chose, stays: the fields that are
    `written` in a file, be they what was usual, and those that are not. Where one of optimizer, rate and
    batch was chosen, all three stay; and mixing is not added to a divergence of views.
    """
    stretched = recipe.for_epochs(now.epochs)
    fields = set(Recipe.model_fields) - {"epochs"}
    chosen = {name for name in fields if name in written or getattr(recipe, name) != getattr(usual, name)}
    if chosen & {*TIED, "momentum", "nesterov", "betas", "epsilon"}:
        chosen |= {*TIED}
    if recipe.jensen_shannon:  # which mixed images have not
        chosen |= {*MIXING}
    return now.model_copy(update={name: getattr(stretched, name) for name in chosen})


def _batch(seen: int | None) -> int:
    """The largest that leaves a training its steps."""
    fitting = (batch for batch in BATCHES if seen is None or seen // batch >= STEPS)
    return next(fitting, BATCHES[-1])


def _is_shifted(is_aligned: bool, epochs: int, images: int) -> bool:
    if is_aligned:
        return epochs >= ALIGNED_EPOCHS
    return epochs >= AUGMENTED_EPOCHS or (epochs >= LARGE_EPOCHS and images * epochs >= LARGE)


def _padding(data_spec: str, side: int | None) -> int:
    """Pixels by which images are shifted.

    Signs by a 14th of their side (Sabour et al., arXiv 1710.09829: 2 of 28 pixels); house numbers not at all,
    as wide residual networks and DenseNets are trained on them (arXiv 1605.07146, 1608.06993): a shift brings
    in a neighbour. All else by SHIFT.
    """
    share = {"mnist": 1 / 14, "svhn": 0}.get(data_spec, SHIFT)
    usual = 8 if data_spec == "digits" else SIDE
    return min(MOST_PADDING, math.floor(share * (side or usual) + 0.5))


def _is_mirrored(data_spec: str) -> bool:
    """Not digits, of which a mirrored one is another sign, and not pictures of which nobody knows what they
    are: 37 classes of letters and digits, 12 epochs, one seed: 48.5% of test images if mirrored, 77.3%
    plain. Fashion-MNIST and CIFAR-100 are, as published residual networks are trained on both (in the table
    of the Fashion-MNIST authors' README, WRN-40-4 so reaches 96.7%, WRN-28-10 with erasing 96.3%).
    """
    return data_spec not in ("mnist", "svhn") and not data_spec.startswith(("folder:", "tensors:"))
