"""The recipe of a network where it is trained otherwise than in a trial of its study: in the rungs and finals
of a second stage, by `search train` and `search confirm`, and in a study like another; which full trainings
are of a network of a study; and which of them were validated, or tested, on the same images.

Called by search/training/train.py, search/study/finish_plan.py, search/worker/rung_training.py and
search/launcher/prepare.py; the last also by search/study/export.py, search/study/second_stage.py,
search/formats/choice.py, search/commands/export.py, search/comparison/ and search/report/stages.py. Reads and
writes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from search import settings
from search.study.config import DataConfig, StudyConfig
from storage.row_types import Candidate
from storage.studies import Study
from storage.trainings import Finished
from trainer.recipe import defaults
from trainer.recipe.document import Recipe


def default_recipe(data: DataConfig, epochs: int | None = None) -> Recipe:
    """That of a full training on these images, of a network that is of no study."""
    return defaults.default_recipe(
        data.spec, epochs or settings.FULL_EPOCHS, data.train_images, data.image_size, data.aligned
    )


def adapted(
    brief: Recipe,
    was: DataConfig,
    data: DataConfig,
    epochs: int | None = None,
    images: int | None = None,
    *,
    written: Collection[str] = (),
) -> Recipe:
    """That of a network of a study: `brief` is its recipe on the images `was`; what somebody chose of it,
    the fields that are `written` among it, stays, and the rest is the default for these epochs on `data`, or
    on so many images of them."""
    usual = defaults.default_recipe(was.spec, brief.epochs, was.train_images, was.image_size, was.aligned)
    epochs, images = epochs or settings.FULL_EPOCHS, images or data.train_images
    now = defaults.default_recipe(data.spec, epochs, images, data.image_size, data.aligned)
    return defaults.adapted(brief, usual, now, written)


def of_network(
    trainings: Sequence[Finished], candidate: Candidate, record: Study, config: StudyConfig
) -> list[Finished]:
    """Those of this network on the study's images, since the study was made (one of the same name may have
    been deleted), in their order; with whatever validation images: see validated_alike()."""
    return [
        one
        for one in trainings
        if one.fingerprint == candidate.fingerprint
        and one.finished_at >= record.created_at
        and one.data.get("digest") == config.data.digest
    ]


def validated_alike(images: Mapping[str, Any], data: DataConfig) -> bool:
    """Whether a training on `images`, a DataConfig as it is stored, was validated on the validation images of
    `data`, and trained on none of them: a study of another --seed has split off others of the same images."""
    return are_validated_alike(images, data.model_dump(mode="json"))


def are_validated_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """The same of two that are stored. The images follow from data set, seed and share, whatever number is
    trained on; where a folder brings them, from the data set alone."""

    def agree(*names: str) -> bool:
        return all(one.get(name) == other.get(name) for name in names)

    if not agree("digest", "validation_images"):
        return False
    if one.get("own_validation") and other.get("own_validation"):
        return True
    split = one.get("split_digest")
    return (split is not None and agree("split_digest")) or agree("split_seed", "validation_share")


def tested_alike(trainings: Sequence[Finished]) -> list[Finished]:
    """Those of them that were tested on the same test images, in their order: a mean over two sets would be
    of neither. Of several sets the one of most of them, of equals the newest."""
    sets = list[list[Finished]]()
    for one in trainings:
        if one.test_accuracy is None:
            continue
        its = next((found for found in sets if all(_are_tested_alike(one, other) for other in found)), None)
        if its is None:
            sets.append([one])
        else:
            its.append(one)
    return max(sets, key=lambda found: (len(found), max(one.finished_at for one in found)), default=[])


def _are_tested_alike(one: Finished, other: Finished) -> bool:
    digests = test_digest(one), test_digest(other)
    return are_same_tests(digests, (one.test_images, other.test_images))


def test_digest(training: Finished) -> str | None:
    """Of the test images that it was tested on; None in a row of before."""
    return training.data.get("test_digest")


def are_same_tests(digests: tuple[str | None, str | None], images: tuple[int | None, int | None]) -> bool:
    """Whether two tests were on the same test images: by their digests, and where one is of before, and does
    not say it, by how many there were."""
    if None in digests:
        return images[0] == images[1]
    return digests[0] == digests[1]
