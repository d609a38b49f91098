"""How to train: the document that a study stores once and every one of its trials follows. Free of torch."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from space.errors import RecipeError

Share = Annotated[float, Field(ge=0, lt=1)]


class Recipe(BaseModel):
    """SGD with momentum under a schedule that comes down to zero over whatever number of epochs there is."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(8, ge=1, le=10_000)
    batch_size: int = Field(128, ge=2, le=65_536)
    learning_rate: float = Field(0.1, gt=0, le=100, description="the highest of the schedule")
    momentum: Share = 0.9
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0, le=1, description="not applied to biases and normalisation")
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warm_up: Share = Field(0.25, description="share of the steps that one_cycle rises over")
    label_smoothing: Share = 0.1
    crop_padding: int = Field(
        4, ge=0, le=64, description="pixels of reflection around a random crop; 0: none"
    )
    flip: bool = Field(True, description="mirror half of the images, left to right")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    @classmethod
    def load(cls, path: Path, base: "Recipe | None" = None) -> "Recipe":
        """Read a .toml or .json file; what it leaves out comes from base. RecipeError names the bad field."""
        given = _document(path)
        try:
            return cls.model_validate({**(base.model_dump() if base else {}), **given})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "recipe"
            raise RecipeError(f"{path}: {where}: {first['msg']} (got {_shown(first['input'])})") from error

    def halved(self) -> "Recipe":
        """Half the batch, for where the whole one does not fit into memory; never fewer than 2 images.

        The learning rate shrinks by the same factor (the linear rule of Goyal et al., arXiv 1706.02677), and
        the epochs stay, so as many images are seen. A batch of 2 is as small as it gets: the same recipe.
        """
        batch_size = max(2, self.batch_size // 2)
        rate = self.learning_rate * batch_size / self.batch_size
        return self.model_copy(update={"batch_size": batch_size, "learning_rate": rate})

    def require_fit(self, image_size: int) -> None:
        """RecipeError if images of so many pixels a side cannot be reflected as far as crop_padding."""
        if self.crop_padding >= image_size:
            raise RecipeError(
                f"crop_padding {self.crop_padding} does not fit images of {image_size} pixels; lower it"
            )


def defaults(data_kind: str) -> Recipe:
    """The brief recipe for a data set: digits, cifar10 or folder (a spec like folder:PATH will do)."""
    if data_kind == "digits":
        # 1,150 images, three networks of 0.4-1.6 million MACs, three splits each: 96.7% in 1.1 s, one thread.
        # Peak 0.2: 94.6%; 0.1: 84.7%; batch 32 at 0.2: 96.9% in 1.7 s; 4 epochs: 92.1%; 8 epochs: 96.6%.
        return Recipe(epochs=6, batch_size=64, learning_rate=0.4, crop_padding=1, flip=False)
    # CIFAR-10 (JPEG), brief trainings of four networks, peak 0.2 against 0.4: 62.3 and 67.2% (15,000 images,
    # 6 epochs); 46.0 and 52.5%, 48.9 and 51.3%, 46.3 and 50.3% (7,680 images, 4 epochs). 0.8 is no better.
    return Recipe(learning_rate=0.4)


def _document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"{path} is not a TOML or JSON document: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a recipe is a table of fields, not a {type(document).__name__}")
    return document


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
