"""Says in lines what a folder of pictures holds, how it is split, and what of it may mislead.

Takes a data set and its split, returns text. Called for the plan of `search launch`, the opening lines of
`search train` and `search data`. Reads the labels, no image.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from trainer.data.dataset import Dataset, Split
from trainer.data.folder_listing import alike_name
from trainer.data.images import FITTED, GROUND
from trainer.data.survey import NAMED, Survey
from trainer.recipe.document import Recipe

FEW_TO_VALIDATE = 5  # validation images of a class; with fewer its accuracy is hardly a number
UNEVEN = 3  # times as many pictures in the largest class as in the smallest


def lines(dataset: Dataset, split: Split, recipe: Recipe) -> list[tuple[str, str]]:
    """A word and a line for each thing worth saying; nothing is said of what is as it should be. `recipe` is
    what the images are trained by."""
    found = list(_of_classes(dataset, split, recipe.class_weights == "none"))
    if dataset.survey is None:
        return found
    alike = _alike(dataset.classes)
    return [*_of_pictures(dataset.survey, dataset.channels), *alike, *found, *_of_copies(dataset)]


def _alike(classes: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Classes that a person would take for one: Cat and cat, or two ways to write an accent."""
    by_name = dict[str, list[str]]()
    for name in classes:
        by_name.setdefault(alike_name(name), []).append(name)
    twins = [" and ".join(map(repr, names)) for names in by_name.values() if len(names) > 1]
    if twins:
        yield "warning", f"classes whose names differ by case, spaces or accents alone: {_some(twins)}"


def _of_pictures(survey: Survey, channels: int) -> Iterable[tuple[str, str]]:
    low, high = (f"{width}x{height}" for width, height in (survey.smallest, survey.largest))
    sizes = low if low == high else f"{low} to {high}"
    square = low == high and survey.smallest[0] == survey.smallest[1]
    scaled = f", scaled to {survey.side}" if not (square and survey.smallest[0] == survey.side) else ""
    how = "" if square else f", {FITTED[survey.fit]} (--fit)"
    yield "images", f"{sizes}{scaled}{how}; {'grey' if channels == 1 else 'colour'}"
    if survey.transparent:
        yield "images", f"{_pictures(survey.transparent)} with transparency, laid on {GROUND}"
    if survey.deep:
        white = (1 << survey.bits) - 1
        yield (
            "images",
            f"{_pictures(survey.deep)} of more than 8 bits, all scaled alike: {white:,} is white",
        )
    if survey.damaged:
        names = _some(path for path, _ in survey.damaged)
        yield "warning", f"skipped {_pictures(len(survey.damaged))} that cannot be read: {names}"
    if survey.left_out:
        kinds = ", ".join(f"{ending} {count}" for ending, count in survey.left_out.items())
        count = sum(survey.left_out.values())
        yield "note", f"left out {count:,} file{'s' * (count != 1)}: {kinds}"
    if survey.folders:
        yield "note", f"left out the folders {_some(survey.folders)}: train/, val/ and test/ are read"


def _of_classes(dataset: Dataset, split: Split, unweighed: bool) -> Iterable[tuple[str, str]]:
    trained = counts(dataset, split.train)
    validated = counts(dataset, split.validation)
    few = {name: count for name, count in validated.items() if count < FEW_TO_VALIDATE}
    if few:
        names = _some(f"{name} ({count} of {count + trained[name]})" for name, count in few.items())
        yield (
            "warning",
            f"{len(few)} of {len(validated)} classes have fewer than {FEW_TO_VALIDATE} validation images:"
            f" {names}",
        )
    yield from _of_untrained(dataset, split, [name for name, count in trained.items() if not count])
    most, least = max(trained, key=trained.__getitem__), min(trained, key=trained.__getitem__)
    if trained[most] >= UNEVEN * max(1, trained[least]):
        told = f"uneven classes: {trained[most]:,} training images of {most}, {trained[least]:,} of {least}"
        if unweighed:
            told += "; --class-weights balanced lets them count alike"
        yield "warning", told


def _of_untrained(dataset: Dataset, split: Split, names: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Classes without an image to train on, apart where copies are the reason."""
    copies = _copied(dataset, split)
    copied = [name for name in names if copies.get(name)]
    others = [name for name in names if not copies.get(name)]
    if copied:
        yield "warning", f"no image to train on in {_some(copied)}: all are copies of validation images"
    if others:
        yield "warning", f"no image to train on in {_some(others)}"


def _copied(dataset: Dataset, split: Split) -> Mapping[str, int]:
    """How many images of each class are copies of validation images, and none themselves."""
    if dataset.groups is None:
        return {}
    others = np.setdiff1d(np.arange(len(dataset.labels)), split.validation)
    return counts(dataset, others[np.isin(dataset.groups[others], dataset.groups[split.validation])])


def counts(dataset: Dataset, rows: np.ndarray) -> Mapping[str, int]:
    """How many of the rows, (N,) int64, each class has."""
    found = np.bincount(dataset.labels[rows], minlength=len(dataset.classes)).tolist()
    return dict(zip(dataset.classes, found, strict=True))


def _of_copies(dataset: Dataset) -> Iterable[tuple[str, str]]:
    survey = dataset.survey
    assert survey is not None
    seen, own = survey.seen_before or {}, dataset.own_validation
    if survey.copies:
        yield (
            "note",
            f"{_pictures(survey.copies)} in train/ are copies of others; they stay on one side of the split",
        )
    if survey.across_classes:
        pairs = _some(f"{second} is {first}" for first, second in survey.across_classes)
        yield "warning", f"{_pictures(len(survey.across_classes))} in two classes: {pairs}"
    tests = sum(survey.counts.get("test", {}).values())
    if seen.get("test"):
        yield "warning", f"{seen['test']:,} of {tests:,} test images are also training images"
    if again := seen.get("test in validation"):
        yield "warning", f"{again:,} of {tests:,} test images are also validation images"
    for name in survey.without:
        then = "there is no test set" if name == "test" else "validation images are drawn from train/"
        yield "warning", f"{name}/ has no pictures in class folders: {then}"
    if own:
        yield "note", f"val/ is the validation part: {own:,} images"
        if twice := seen.get("validation"):
            yield "warning", f"{twice:,} of {own:,} validation images are also in train/, and left out there"


def _pictures(count: int) -> str:
    return f"{count:,} picture{'s' * (count != 1)}"


def _some(names: Iterable[str]) -> str:
    """The first ten, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - NAMED:,} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more
