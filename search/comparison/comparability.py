"""What differs between the settings of two or more studies, and which of it makes their scores incomparable.

Computes from stored configurations and rows; reads and writes nothing. Called by
search/comparison/studies.py.

A brief score is comparable with another where both searches maximise the same score, and both networks were
trained by the same recipe for as many epochs on the same images, and validated on the same images: where the
digests of images and split agree these are, however they were asked for. Space, budget, sampler, pruner and
seed may differ: they are what searches are compared by. Of settings that this module does not know a
difference counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.study import full_training
from search.study.config import WRITTEN, StudyConfig
from search.study.finish_plan import FinishPlan
from search.study.text import counted
from search.study.versions import HOST
from storage.row_types import Candidate
from storage.studies import Study

Settings = Mapping[str, Any]  # by dotted name: recipe.epochs

SEARCHED = {
    "space",
    "budget",
    "sampler",
    "sampling",
    "pruner",
    "seed",
}  # what a search is, not what it scores
BESIDE = {
    "task",
    "data",
    "recipe",
    "score",
    "own_score",
    "halving",
    "finals",
    "trials",
    "versions",
    "devices",
}  # judged below, or harmless
HARMLESS_OF_DATA = {
    "data.spec",
    "data.name",
    "data.skip_damaged",
    "data.own_validation",
    "data.aligned",
    "data.fit",
    "data.test_digest",
}  # where the digest is the same
HARMLESS_OF_SPLIT = {
    "data.limit",
    "data.split_seed",
    "data.validation_share",
}  # where the images that it gives are the same
OF_TRIALS_ALONE = {"data.limit", "data.train_images", "data.split_digest"}  # finals train on all images
DATA, FINALS, FINALS_RECIPE = "data.", "finals.", "finals.recipe."
TEST_IMAGES = "data.test_images"  # how many a network was tested on; no setting of a study
DIGITS = 12  # of a sha256 that is shown
NAMED = 3  # fields of a recipe


@dataclass(frozen=True)
class DifferingSetting:
    """A setting that not all studies have alike; None where one has no such setting."""

    name: str
    values: tuple[Any, ...]  # in the order of the studies


def settings_of(record: Study, config: StudyConfig, rows: Iterable[Candidate]) -> dict[str, Any]:
    """Everything that was set for a study and everything that it ran on, by dotted name.

    Versions and devices are those of the trained `rows` and of whoever made the study, each once.
    """
    plan = FinishPlan.from_record(record.finish)
    document = {name: value for name, value in config.document().items() if name not in WRITTEN}
    found = _flat(document) | {"trials": record.trials}
    if plan:
        finals = plan.finals
        rungs = [f"{rung.networks} for {counted(rung.epochs, 'epoch')}" for rung in plan.rungs]
        found["halving"] = ", ".join(rungs) or None
        length = counted(finals.recipe.epochs, "epoch")
        chosen = f" of {finals.contenders}, by one seed," if finals.contenders else ""
        found["finals"] = f"{finals.networks}{chosen} for {length}"
        found |= _flat(finals.model_dump(mode="json"), FINALS)
    versions = {name: {str(value)} for name, value in record.versions.items() if name != HOST}
    devices = set[str]()
    for row in rows:
        devices |= {row.device} if row.device else set()
        for name, value in (row.versions or {}).items():
            versions.setdefault(name, set()).add(str(value))
    found |= {f"versions.{name}": ", ".join(sorted(values)) for name, values in versions.items()}
    return found | {"devices": ", ".join(sorted(devices)) or None}


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found = dict[str, Any]()
    for name, value in document.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def differing(studies: Sequence[Settings]) -> tuple[DifferingSetting, ...]:
    """The settings that not all have alike, in the order in which they are stored; of finals that not all
    have, no more than that."""
    with_finals = all("finals" in settings for settings in studies)
    every = dict.fromkeys(name for settings in studies for name in settings)
    names = [name for name in every if with_finals or not name.startswith(FINALS)]
    rows = [DifferingSetting(name, tuple(settings.get(name) for settings in studies)) for name in names]
    return tuple(row for row in rows if any(value != row.values[0] for value in row.values))


def shown(value: Any) -> str:
    """A setting for people: thousands parted, a digest cut."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value)) or "none"
    text = str(value)
    return text[:DIGITS] if len(text) == 64 and text.isalnum() else text


def of_brief_scores(one: Settings, other: Settings) -> tuple[str, ...]:
    """Why the scores of trials of two studies are not comparable, each in a few words; empty: they are."""
    changed = _changed(one, other)
    reasons = [
        *_of_score(one, other, changed),
        *_of_images(one, other, changed),
        *_of_recipe(one, other, changed, "recipe."),
    ]
    roots = dict.fromkeys(name.partition(".")[0] for name in changed)
    return (*reasons, *(f"another {root}" for root in roots if root not in SEARCHED | BESIDE))


def of_finals(one: Settings, other: Settings) -> tuple[str, ...]:
    """The same of the full trainings in the finals of two studies."""
    changed = _changed(one, other)
    split = HARMLESS_OF_SPLIT if validated_alike(one, other) else set[str]()
    images = [name for name in changed if name not in OF_TRIALS_ALONE | split]
    return (
        *_of_score(one, other, changed),
        *_of_images(one, other, images),
        *_of_recipe(one, other, changed, FINALS_RECIPE),
    )


def of_tests(one: Settings, other: Settings) -> tuple[str, ...]:
    """The same of accuracies on test images, for which it does not matter how training images were split.

    What they were tested on, by full_training.are_same_tests(), is `data.test_digest` and TEST_IMAGES: of the
    full trainings, not of the studies, since test images may have come later.
    """
    changed = _changed(one, other)
    return (
        *_of_score(one, other, changed),
        *(_of_data_set(one, other, changed) or _of_test_images(one, other)),
        *_of_recipe(one, other, changed, FINALS_RECIPE),
    )


def validated_alike(one: Settings, other: Settings) -> bool:
    """Whether both were validated on the same images."""
    return full_training.are_validated_alike(_data(one), _data(other))


def _data(settings: Settings) -> dict[str, Any]:
    """The DataConfig in them, as it is stored."""
    return {name.removeprefix(DATA): value for name, value in settings.items() if name.startswith(DATA)}


def _changed(one: Settings, other: Settings) -> list[str]:
    """All that differs; without the seed of a split where both data sets have validation images of their own,
    of which it draws none."""
    is_drawn = not (one.get("data.own_validation") and other.get("data.own_validation"))
    return [row.name for row in differing((one, other)) if is_drawn or row.name != "data.split_seed"]


def _of_score(one: Settings, other: Settings, changed: Sequence[str]) -> list[str]:
    """The best by one score is not meant to be the best by another."""
    if "score" not in changed:
        other_function = not {"own_score.sha256", "own_score.function"}.isdisjoint(changed)
        return ["they maximise other functions of their users"] if other_function else []
    return [f"they maximise other scores ({shown(one.get('score'))} and {shown(other.get('score'))})"]


def _both(one: Settings, other: Settings, name: str) -> str:
    return f"{shown(one.get(name))} and {shown(other.get(name))}"


def _of_data_set(one: Settings, other: Settings, changed: Sequence[str]) -> list[str]:
    classes = [f"{_both(one, other, 'task.classes')} classes"] if "task.classes" in changed else []
    if "data.digest" not in changed:
        return classes
    name = one.get("data.name")
    is_same_name = name == other.get("data.name")
    what = f"other images under the name {name}" if is_same_name else _both(one, other, "data.name")
    return [f"another data set ({what})", *classes]


def _of_images(one: Settings, other: Settings, changed: Sequence[str]) -> list[str]:
    found = _of_data_set(one, other, changed)
    if "data.digest" in changed:
        return found
    split = one.get("data.split_digest")
    is_same_split = split is not None and split == other.get("data.split_digest")
    harmless = HARMLESS_OF_DATA | (HARMLESS_OF_SPLIT if is_same_split else set())
    if not validated_alike(one, other):
        name = "data.split_seed" if "data.split_seed" in changed else "data.validation_images"
        seeds = "split seed " if name == "data.split_seed" else ""
        found.append(f"other validation images ({seeds}{_both(one, other, name)})")
    elif "data.train_images" in changed:
        found.append(f"other training images ({_both(one, other, 'data.train_images')})")
    elif any(name.startswith(DATA) and name not in harmless for name in changed):
        found.append("another split of the images")
    return found


def _of_test_images(one: Settings, other: Settings) -> list[str]:
    digests = one.get("data.test_digest"), other.get("data.test_digest")
    images = one.get(TEST_IMAGES), other.get(TEST_IMAGES)
    if full_training.are_same_tests(digests, images):
        return []
    how = f" ({_both(one, other, TEST_IMAGES)})" if images[0] != images[1] else ""
    return [f"other test images{how}"]


def _of_recipe(one: Settings, other: Settings, changed: Sequence[str], prefix: str) -> list[str]:
    fields = [name.removeprefix(prefix) for name in changed if name.startswith(prefix)]
    fields = [field for field in fields if not field.startswith("accept")]  # a consent, not a way to train
    epochs, found = f"{prefix}epochs", []
    if "epochs" in fields:
        found.append(f"other epochs ({shown(one.get(epochs))} and {shown(other.get(epochs))})")
        fields.remove("epochs")
    if fields:
        more = f" and {len(fields) - NAMED} more" if len(fields) > NAMED else ""
        found.append(f"another recipe ({', '.join(fields[:NAMED])}{more})")
    return found
