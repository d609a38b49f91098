"""The stored configuration of a study: all that a worker needs to run the same search anywhere.

Made by search/launcher/prepare.py, stored as JSON in the study's row, and read by every worker and every
command that looks at a study. Also opens and splits the images that it names. Knows no database and no
sampler.
"""

import json
import logging
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from search import settings
from search.study.own_score import OwnScore
from search.study.score import ScoreName
from space import effective, membership, sampling
from space.architecture import Architecture
from space.budget import Budget
from space.document import first_problem
from space.errors import DataError, StudyError
from space.random_suggest import RandomSuggest
from space.sampling import Proposal, Suggest
from space.space import SearchSpace, Task
from trainer.data import alignment, prepared
from trainer.data.dataset import Dataset, Split, load, split
from trainer.data.images import Fit
from trainer.recipe.document import Recipe

logger = logging.getLogger(__name__)

SamplerName = Literal["tpe", "gp", "random"]
SamplingName = Literal["fit", "reject"]
PrunerName = Literal["median", "hyperband", "asha", "none"]


class DataConfig(BaseModel):
    """Which images, and how they were split; the digests (sha256) make a mix-up impossible."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: str
    name: str
    image_size: int
    limit: int | None
    validation_share: float
    split_seed: int
    train_images: int
    validation_images: int
    digest: str
    split_digest: str
    fit: Fit = "crop"  # of a study made before there was a choice
    skip_damaged: bool = False
    own_validation: bool = False  # the folder's val/; a study of before does not say
    aligned: bool | None = None  # trainer/data/alignment.py; of a study of before what the name says
    test_digest: str | None = None  # of the test images; None without any, and in a study of before

    @property
    def all_train_images(self) -> int:
        """How many there are without the limit."""
        if self.limit is None:
            return self.train_images
        return round(self.validation_images / self.validation_share) - self.validation_images

    @property
    def own_part(self) -> str | None:
        """What validation images are called that the data set brings; None where they were split from the
        training images."""
        if not self.own_validation:
            return None
        return "the folder's own (val/)" if self.spec.startswith("folder:") else "its own"

    def seen_as(self, was: "DataConfig | None") -> "DataConfig":
        """With what was said of the pictures before, where they are the same: another version may see
        otherwise whether they fill their frame in one way, and recipes follow from it."""
        if was is None or was.digest != self.digest:
            return self
        return self.model_copy(update={"aligned": was.aligned})

    def has_other_tests(self, dataset: Dataset) -> bool:
        """Whether the data set has test images, and others than these; False where that is not known."""
        return self.test_digest is not None and dataset.test_digest not in (None, self.test_digest)


WRITTEN = ("recipe_written", "space_written", "max_macs_written")  # how others came about: no settings


class StudyConfig(BaseModel):
    """What to search, how to train, on what, and who decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: SearchSpace
    space_written: SearchSpace | None = None  # where it says something else of images of another size
    budget: Budget
    max_macs_written: bool | None = None  # whether somebody chose that limit; a study of before does not say
    task: Task
    recipe: Recipe
    recipe_written: tuple[str, ...] = ()  # its fields that somebody chose; none of a study of before
    data: DataConfig
    sampler: SamplerName
    sampling: SamplingName = "fit"  # a study made before there was a choice
    pruner: PrunerName
    seed: int
    score: ScoreName = "accuracy"  # that is maximised; a study made before there was a choice
    own_score: OwnScore | None = None  # of the user's, where score is "own"

    @classmethod
    def from_record(cls, settings: dict[str, Any]) -> Self:
        """The configuration from the settings of a study's row. Raises StudyError for others."""
        try:
            return cls.model_validate_json(json.dumps(settings))
        except ValidationError as error:
            reason = first_problem(error, cls)
            raise StudyError(f"the stored settings are damaged, or of another version: {reason}") from None

    def document(self) -> dict[str, Any]:
        """The configuration as JSON values, as the store keeps it."""
        return self.model_dump(mode="json")

    def propose(self, suggest: Suggest) -> Architecture:
        """The network that these suggestions mean: solved to fit the budget, or with its widths as drawn.

        Raises NothingFitsError where no width fits.
        """
        return self.draw(suggest).architecture

    def draw(self, suggest: Suggest) -> Proposal:
        """The same, with what had to be done to it."""
        if self.sampling == "reject":
            return sampling.plain_proposal(self.space, self.task, suggest)
        return sampling.proposal(self.space, self.budget, self.task, suggest)

    def settle(
        self, parameters: Mapping[str, Any], drawn: Proposal
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The parameters that say what the network is which was made of these, and the names of those that
        still say something else: space/effective.py."""
        if self.sampling == "reject":
            found = effective.plain_effective(self.space, self.task, parameters, drawn)
        else:
            found = effective.effective(self.space, self.budget, self.task, parameters, drawn)
        return found.answers, found.differs

    def suggestions_of(self, architecture: Architecture) -> dict[str, Any] | list[str]:
        """The answers of which `propose` makes this network, or the reasons why there are none. With sampling
        reject these know no budget."""
        if self.sampling == "reject":
            return membership.plain_suggestions_of(self.space, self.task, architecture)
        return membership.suggestions_of(self.space, self.budget, self.task, architecture)

    def expected_to_differ(self, draws: int) -> Counter[str]:
        """Of so many proposals at random, how many are stored with a parameter that says something else than
        the network is, by the parameter's name; empty in most spaces.

        Raises NothingFitsError where nothing fits the budget.
        """
        dice, found = RandomSuggest(self.seed), Counter[str]()
        for _ in range(draws):
            dice.clear()
            drawn = self.draw(dice)
            found.update(self.settle(dice.answers, drawn)[1])
        return found

    def ask(self, suggest: Suggest) -> None:
        """Asks all questions that `draw` asks, and makes no network."""
        sampling.draw(self.space, suggest)
        if self.sampling == "reject":
            sampling.ask_width(self.space, suggest)
        else:
            sampling.ask_share(self.space, suggest)


@dataclass(frozen=True)
class Images:
    """A data set that was opened and split as a configuration says."""

    dataset: Dataset
    split: Split
    note: str = ""  # what is to be said of them, in words


def split_images(
    dataset: Dataset, limit: int | None, share: float | None, seed: int
) -> tuple[DataConfig, Images]:
    """Splits off the validation part, and describes both.

    `limit` bounds the training images; without a `share` it is a tenth, of a small data set a fifth. Raises
    DataError where too few images are left.
    """
    if share is None:
        small = len(dataset.labels) < settings.SMALL
        share = settings.SMALL_VALIDATION_SHARE if small else settings.VALIDATION_SHARE
    parts = split(dataset, seed, share, limit)
    if dataset.own_validation:  # nothing was drawn
        share = dataset.own_validation / len(dataset.labels)
    config = DataConfig(
        spec=dataset.spec,
        name=dataset.name,
        image_size=dataset.image_size,
        limit=limit,
        validation_share=share,
        split_seed=seed,
        train_images=len(parts.train),
        validation_images=len(parts.validation),
        digest=dataset.digest,
        split_digest=parts.digest,
        fit=dataset.scaling.fit,
        skip_damaged=bool(dataset.survey and dataset.survey.damaged),
        own_validation=bool(dataset.own_validation),
        aligned=alignment.is_aligned(dataset.images),
        test_digest=dataset.test_digest,
    )
    return config, Images(dataset, parts)


def open_images(data: DataConfig, data_dir: Path, spec: str | None = None) -> Images:
    """Opens the images of a configuration, from `spec` where they lie elsewhere on this machine. Where they
    are not there any more, or others are, be it test images alone, as they were prepared before, with a note
    that says so. Other test images stay where those of before are not prepared here.

    Raises DataError where the images are not prepared here either.
    """
    where = spec or data.spec
    try:
        found = _required(data, load(where, data_dir, data.image_size, data.fit, data.skip_damaged))
    except DataError:
        before = as_before(data, data_dir)
        if before is None:
            raise
        return replace(_required(data, before), note=goes_on(where))
    before = tests_of_before(data, found.dataset, data_dir)
    return replace(_required(data, before), note=goes_on(where, TESTS)) if before else found


def tests_of_before(data: DataConfig, dataset: Dataset, data_dir: Path) -> Dataset | None:
    """The same images with the test images of a configuration, as they were prepared on this machine, where
    the data set has others, or none any more; None where they are these, or not prepared here."""
    if data.test_digest in (None, dataset.test_digest):
        return None
    before = as_before(data, data_dir)
    return before if before and before.test_digest == data.test_digest else None


def as_before(data: DataConfig, data_dir: Path) -> Dataset | None:
    """The images of a configuration as they were prepared on this machine; None where they are not."""
    return prepared.opened(data_dir, data.digest, None, data.spec, data.name, data.model_dump())


def goes_on(spec: str, what: str = "images") -> str:
    """What is said where images are taken as_before()."""
    return f"{spec} no longer holds the {what} of the study, which goes on with those of before"


def open_images_from(data: DataConfig, data_dir: Path, spec: str | None, source: str | None) -> Images:
    """The same on a machine that may have no images: the prepared ones of `source` then, by their digest
    (trainer/data/prepared.py). Where they lie elsewhere, `spec`, or nobody has them, as open_images(), whose
    note goes into the log.

    Finals may be tested on them, beside those of other workers. Raises DataError where they are nowhere,
    damaged, or not those that the study was made with, test images included; that there are none is no
    reason.
    """
    found = None
    if source and not spec:
        found = prepared.opened(data_dir, data.digest, source, data.spec, data.name, data.model_dump())
    if found:
        return _with_the_same_tests(data, _required(data, found))
    try:
        images = _with_the_same_tests(data, open_images(data, data_dir, spec))
    except DataError as error:
        if source and not spec:
            raise DataError(f"{source} does not have the images of the study, and {error}") from error
        raise
    if images.note:
        logger.warning("%s", images.note)
    return images


def _with_the_same_tests(data: DataConfig, images: Images) -> Images:
    """The images. Raises DataError where there are other test images beside them than those of the study."""
    if data.has_other_tests(images.dataset):
        raise DataError(
            f"{images.dataset.spec} holds other test images than {data.name}, with which the study was made"
        )
    return images


def _required(data: DataConfig, dataset: Dataset) -> Images:
    """The images, split. Raises DataError where they are not those of the study."""
    parts = split(dataset, data.split_seed, data.validation_share, data.limit)
    if (dataset.digest, parts.digest) != (data.digest, data.split_digest):
        raise other_images(dataset, data)
    return Images(dataset, parts)


def other_images(dataset: Dataset, data: DataConfig) -> DataError:
    """What is wrong where a data set is not the one of a configuration, and what to do."""
    return DataError(
        f"{dataset.spec} holds other images than {data.name}, with which the study was made;"
        " put them back as they were, or make a new study under another name"
    )


TESTS = "test images"
FLAGS = {  # what others follow from comes first
    "seed": "--seed",
    "data": "--data, --image-size or --fit",
    "space": "--space",
    "budget": "--max-params or --max-macs",
    "recipe": "--recipe, --epochs or --class-weights",
    "sampler": "--sampler",
    "sampling": "--sampling",
    "pruner": "--pruner",
    "score": "--score",
    "own_score": "--score",
}


def require_same(name: str, stored: StudyConfig, wanted: StudyConfig) -> None:
    """Raises StudyError that names the first flag by which `wanted` differs from the study."""
    if stored.data != wanted.data and wanted.data == stored.data.model_copy(
        update={"test_digest": wanted.data.test_digest}
    ):
        raise StudyError(
            f"study {name!r} was made with other test images; put them back, or make a new study of its plan"
            " by --like"
        )
    for field, flag in FLAGS.items():
        was, now = getattr(stored, field), getattr(wanted, field)
        if was != now:
            way = "leave the flag out to go on with it, or name a new study"
            if isinstance(was, DataConfig) and isinstance(now, DataConfig) and _has_changed(was, now):
                way = (
                    f"{now.spec} has changed since: `search resume {shlex.quote(name)}` goes on with its"
                    " images of before, another name makes a new study"
                )
            raise StudyError(f"study {name!r} was made with another {flag}{_difference(was, now)}; {way}")


def _has_changed(was: DataConfig, now: DataConfig) -> bool:
    """Whether the same folder, read in the same way, has other images."""
    same = ("spec", "image_size", "fit")
    return was.digest != now.digest and all(getattr(was, name) == getattr(now, name) for name in same)


def _difference(was: object, now: object) -> str:
    if isinstance(was, DataConfig) and isinstance(now, DataConfig):
        was, now = was.name, now.name
    short = all(isinstance(x, (str, int, Budget, OwnScore)) for x in (was, now)) and was != now
    return f" ({was}, not {now})" if short else ""
