"""The recipe document, which says how to train: a study stores it once, and all of its trials follow it.

Reads TOML and JSON files, writes none. Called by search/study/ and the commands that take --recipe, and read
by all of trainer/. Free of torch.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from space import parser
from space.document import first_problem
from space.errors import RecipeError
from trainer.recipe import checks, part
from trainer.recipe.optimizer_defaults import (
    OPTIMIZER_DEFAULTS,
    WITH_BETAS,
    WITH_MOMENTUM,
    WITH_NESTEROV,
    OptimizerName,
)
from trainer.recipe.part import RecipePart
from trainer.recipe.policies import POLICIES, AugMix, Policy, PolicyField
from trainer.recipe.schedules import SHORT, Base, Cosine, OneCycle, ScheduleField, Share

Deviation = Annotated[float, Field(gt=0, le=10)]
ClassWeights = Literal["none", "balanced"]
MOST_PADDING = 64
MIXING = ("mixup", "cutmix")
MOST_EPOCHS = 10_000
BY_OPTIMIZER = ("learning_rate", "weight_decay", "momentum", "nesterov")


class Scale(RecipePart):
    """Mean and standard deviation of each channel, where white is 1."""

    mean: tuple[Annotated[float, Field(ge=-10, le=10)], ...] = Field(min_length=1, max_length=4)
    deviation: tuple[Deviation, ...] = Field(min_length=1, max_length=4)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.mean) != len(self.deviation):
            raise ValueError("mean and deviation must be as many")
        return self


NormalisationField = Annotated[
    Annotated[Literal["measured", "none", "cifar10", "imagenet"], Tag(part.SHORT)]
    | Annotated[Scale, Tag(part.TABLE)],
    Discriminator(lambda value: part.TABLE if isinstance(value, (dict, Scale)) else part.SHORT),
]


class Dropout(RecipePart):
    """Shares to drop while training, by position; what is given here replaces the architecture's own."""

    block: Share | None = Field(None, description="after the first norm of each block")
    block_end: Share = Field(0.0, description="after the last activation of each block")
    head: Share | None = Field(None, description="before the first linear layer")


class Recipe(RecipePart):
    """How to train a network, whatever the network. What is left out is SGD under one cycle, as in the
    recipes of published systems; of a file that somebody wrote it is the default recipe, as load() has it."""

    epochs: int = Field(8, ge=1, le=MOST_EPOCHS)
    batch_size: int = Field(128, ge=2, le=65_536)
    optimizer: OptimizerName = "sgd"
    learning_rate: float = Field(
        0.1,
        gt=0,
        le=100,
        description="the highest of the schedule, of muon that of what SGD moves; left out: of muon and sgd"
        " that of the default recipe, else the optimizer's usual one",
    )
    momentum: Share = Field(
        0.9, description="of sgd, muon and rmsprop; left out: 0.9 for sgd and muon, else 0"
    )
    nesterov: bool = Field(True, description="of sgd and muon, and then true if left out")
    weight_decay: float = Field(
        5e-4,
        ge=0,
        le=1,
        description="decoupled in adamw, else L2; of muon that of linear layers; left out: sgd and muon 5e-4,"
        " adamw 0.05, else 0",
    )
    decay_vectors: bool = Field(False, description="biases and normalisation decay too, as torch has it")
    betas: tuple[Share, Share] | None = Field(None, description="of adam, adamw and radam")
    epsilon: float | None = Field(None, gt=0, le=1, description="of every optimizer but sgd and muon")
    schedule: ScheduleField = Field("one_cycle", description="a name, or a table that begins with one")
    warm_up: Share = Field(0.25, description='share of the steps that schedule = "one_cycle" rises over')
    label_smoothing: Share = 0.1
    class_weights: ClassWeights = Field(
        "none", description="balanced: in the loss rare classes count as much as common ones"
    )
    jensen_shannon: float = Field(
        0.0, ge=0, le=1000, description="weight of the divergence between an image and two AugMix views of it"
    )
    clip_value: float | None = Field(None, gt=0, le=1e6, description="largest element of a gradient")
    clip_norm: float | None = Field(None, gt=0, le=1e6, description="largest norm of all gradients together")
    ema: Share = Field(0.0, description="decay of the average of the weights that is evaluated; 0: none")
    dropout: Dropout | None = None
    drop_path: Share = Field(
        0.0, description="share of images that skip the last block, growing evenly from the first block on"
    )
    initial: Literal["residual", "torch"] = Field(
        "residual", description="first weights: He's, each block an identity; or torch's own"
    )
    crop_padding: int = Field(4, ge=0, le=MOST_PADDING, description="pixels around a random crop; 0: no crop")
    crop_edge: Literal["reflect", "zero"] = Field("reflect", description="what is in the padding")
    enlarge: int | None = Field(
        None, ge=4, le=512, description="pixels a side that images are scaled to before the crop"
    )
    flip: bool = Field(True, description="mirror half of the images, left to right")
    flip_vertical: bool = Field(False, description="mirror half of the images, top to bottom")
    rotation: float = Field(0.0, ge=0, le=180, description="degrees, to either side")
    cutout: int = Field(0, ge=0, le=512, description="side in pixels of a square that is blanked; 0: none")
    random_erasing: float = Field(
        0.0, ge=0, le=1, description="how likely a rectangle of an image is blanked; 0: never"
    )
    policy: PolicyField | None = None
    mixup: float = Field(0.0, ge=0, le=100, description="alpha of MixUp; 0: none")
    cutmix: float = Field(0.0, ge=0, le=100, description="alpha of CutMix; 0: none; with mixup by turns")
    normalisation: NormalisationField = Field(
        "measured", description="measured: mean and deviation of the training images"
    )
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    evaluate_in_training_mode: bool = Field(False, description="a mistake, kept to repeat published results")
    accept: tuple[checks.Name, ...] = Field((), description="known mistakes that are meant")

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        """What is left out and depends on the optimizer."""
        name = given.get("optimizer", "sgd") if isinstance(given, dict) else None
        if not isinstance(name, str) or name not in OPTIMIZER_DEFAULTS:
            return given
        usual = {field: getattr(OPTIMIZER_DEFAULTS[name], "rate" if field == "learning_rate" else field)
                 for field in BY_OPTIMIZER}  # fmt: skip
        return {**usual, **given}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for problem in self._conflicts():
            raise ValueError(problem)
        for mistake in checks.of_recipe(self):
            if mistake.name and mistake.name not in self.accept:
                raise ValueError(mistake.refusal)
        return self

    def _conflicts(self) -> list[str]:
        has_augmix = isinstance(self.expanded_policy, AugMix)
        options = {
            f"nesterov is of sgd and muon, not of {self.optimizer}": self.nesterov
            and self.optimizer not in WITH_NESTEROV,
            "nesterov needs a momentum above 0": self.nesterov and self.momentum == 0,
            f"momentum is of sgd, muon and rmsprop, not of {self.optimizer}": self.momentum > 0
            and self.optimizer not in WITH_MOMENTUM,
            f"betas are of adam, adamw and radam, not of {self.optimizer}": self.betas is not None
            and self.optimizer not in WITH_BETAS,
            "epsilon is of every optimizer but sgd and muon": self.epsilon is not None
            and self.optimizer in WITH_NESTEROV,
            f"jensen_shannon {self.jensen_shannon:g} needs AugMix: add policy = \"augmix\"":
            self.jensen_shannon > 0 and not has_augmix,
            "jensen_shannon compares views of one image; it goes with neither mixup nor cutmix":
            self.jensen_shannon > 0 and self.mixup + self.cutmix > 0,
            "clip_value and clip_norm are alternatives; leave one out": bool(
                self.clip_value and self.clip_norm
            ),
        }  # fmt: skip
        return [problem for problem, found in options.items() if found]

    @property
    def planned(self) -> Base:
        """The schedule in full, where only its name was given."""
        if not isinstance(self.schedule, str):
            return self.schedule
        return OneCycle(rise=self.warm_up) if self.schedule == "one_cycle" else SHORT[self.schedule]()  # type: ignore[call-arg]

    @property
    def expanded_policy(self) -> Policy | None:
        """The policy in full, where only its name was given."""
        return POLICIES[self.policy]() if isinstance(self.policy, str) else self.policy

    @classmethod
    def load(cls, path: Path, base: "Recipe | None" = None) -> "Recipe":
        """Read a .toml or .json file; what it leaves out comes from base.

        A file that names another optimizer takes nothing from base that is tuned to base's, but for sgd and
        muon, whose rates are the same; and one that
        compares views of an image does not mix them because base does. Raises RecipeError, which names the
        bad field.
        """
        return cls.parse(read_document(path), str(path), base)

    @classmethod
    def parse(cls, given: Any, where: str, base: "Recipe | None" = None) -> "Recipe":
        """The same from values at hand; `where` names them in an error. Raises RecipeError."""
        if not isinstance(given, dict):
            raise RecipeError(f"{where}: a recipe is a table of fields, not a {type(given).__name__}")
        known = base.model_dump() if base else {}
        optimizer = given.get("optimizer", base.optimizer) if base else None
        if base and optimizer != base.optimizer and {optimizer, base.optimizer} != {*WITH_NESTEROV}:
            known = {name: value for name, value in known.items() if name not in OF_OPTIMIZER}
        if given.get("jensen_shannon"):
            known = {name: value for name, value in known.items() if name not in MIXING}
        try:
            return cls.model_validate({**known, **given})
        except ValidationError as error:
            raise RecipeError(f"{where}: {first_problem(error, cls)}") from None

    def for_epochs(self, epochs: int) -> "Recipe":
        """The same over another number of epochs: a schedule of fixed length is stretched with it."""
        update: dict[str, Any] = {"epochs": epochs}
        if not isinstance(self.schedule, str):
            update["schedule"] = self.schedule.stretched(epochs / self.epochs)
        return self.model_copy(update=update)

    def weighing(self, class_weights: ClassWeights | None) -> "Recipe":
        """The same with other class weights; the same recipe for None."""
        return self.model_copy(update={"class_weights": class_weights}) if class_weights else self

    def halved(self) -> "Recipe":
        """Half the batch, for where the whole one does not fit into memory; never fewer than 2 images.

        The learning rate shrinks by the same factor (the linear rule of Goyal et al., arXiv 1706.02677), and
        the epochs stay, so as many images are seen. A batch of 2 is as small as it gets: the same recipe.
        """
        batch_size = max(2, self.batch_size // 2)
        factor = batch_size / self.batch_size
        update: dict[str, Any] = {"batch_size": batch_size, "learning_rate": self.learning_rate * factor}
        lowest = getattr(self.schedule, "minimum", 0.0)
        if lowest:
            update["schedule"] = cast(Cosine, self.schedule).model_copy(update={"minimum": lowest * factor})
        return self.model_copy(update=update)

    def require_batch(self, images: int) -> None:
        """Raises RecipeError if there are fewer training images than a batch, for those who ask for that."""
        if self.batch_size > images:
            raise RecipeError(
                f"batch_size {self.batch_size} is more than the {images:,} training images; lower it"
            )

    def require_fit(self, image_size: int) -> None:
        """Raises RecipeError if the recipe is not for images of so many pixels a side.

        They cannot be reflected as far as crop_padding, or enlarge or cutout is of another size.
        """
        side = self.enlarge or image_size
        if self.crop_edge == "reflect" and self.crop_padding >= side:
            raise RecipeError(
                f"crop_padding {self.crop_padding} does not fit images of {side} pixels; lower it"
            )
        if side < image_size:
            raise RecipeError(f"enlarge {side} is below the {image_size} pixels of the images; raise it")
        for name in ("cutout", "random_erasing"):
            if getattr(self, name) and image_size == 1:
                raise RecipeError(f"{name} leaves nothing of images of 1 pixel; set it to 0")
        if self.cutout > image_size:
            raise RecipeError(
                f"cutout {self.cutout} is more than the {image_size} pixels of an image; lower it"
            )
        if self.cutout == image_size:
            raise RecipeError(
                f"cutout {self.cutout} leaves nothing of some images of {image_size} pixels; lower it"
            )


OF_OPTIMIZER = (*BY_OPTIMIZER, "betas", "epsilon")


BY_IMAGES = ("epochs", "batch_size", "optimizer", *BY_OPTIMIZER, "crop_padding", "flip", *MIXING)


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe file.

    Fields of which the default recipe has another value than Recipe, by images, epochs or optimizer, are
    without a default: `search recipe check` fills them in.
    """
    found = Recipe.model_json_schema()
    for name in BY_IMAGES:
        found["properties"][name].pop("default")
    told = (
        "How to train a network, whatever the network. What is left out and has no default here follows from"
        " the images, how long a training is and the optimizer: `search recipe check` prints it."
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found | {"description": told}


def read_document(path: Path) -> Any:
    """What a .toml or .json file says, unchecked. Raises RecipeError for another file."""
    return parser.read(path, parser.form_of(path), RecipeError)
