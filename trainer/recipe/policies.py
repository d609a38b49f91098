"""The augmentation policies there are, as documents that a recipe holds.

Read by trainer/recipe/document.py; trainer/augmentation/policy.py carries them out. Free of torch.
"""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from trainer.recipe import part
from trainer.recipe.part import RecipePart, tag


class RandAugment(RecipePart):
    """So many random operations in a row, all of one strength (arXiv 1909.13719)."""

    name: Literal["randaugment"] = "randaugment"
    operations: int = Field(2, ge=1, le=10)
    magnitude: int = Field(9, ge=0, le=30)


class TrivialAugment(RecipePart):
    """One random operation of random strength, from wide ranges (arXiv 2103.10158)."""

    name: Literal["trivialaugment"] = "trivialaugment"


class AutoAugment(RecipePart):
    """One of the 25 pairs of operations that were found for CIFAR-10 (arXiv 1805.09501)."""

    name: Literal["autoaugment"] = "autoaugment"


class AugMix(RecipePart):
    """Chains of operations, mixed with each other and with the image (arXiv 1912.02781)."""

    name: Literal["augmix"] = "augmix"
    width: int = Field(3, ge=1, le=10, description="chains")
    depth: int = Field(0, ge=0, le=10, description="operations of a chain; 0 draws 1 to 3 for each")
    severity: int = Field(3, ge=1, le=10)
    alpha: float = Field(1.0, gt=0, le=100, description="of the Dirichlet and the Beta distribution")
    every_operation: bool = Field(True, description="colour, contrast, brightness and sharpness too")


Policy = RandAugment | TrivialAugment | AutoAugment | AugMix
PolicyName = Literal["randaugment", "trivialaugment", "autoaugment", "augmix"]
POLICIES: dict[str, type[Policy]] = {
    "randaugment": RandAugment,
    "trivialaugment": TrivialAugment,
    "autoaugment": AutoAugment,
    "augmix": AugMix,
}


PolicyField = Annotated[
    Annotated[PolicyName, Tag(part.SHORT)]
    | Annotated[RandAugment, Tag("randaugment")]
    | Annotated[TrivialAugment, Tag("trivialaugment")]
    | Annotated[AutoAugment, Tag("autoaugment")]
    | Annotated[AugMix, Tag("augmix")],
    Discriminator(
        tag,
        custom_error_type="policy",
        custom_error_message="name should be randaugment, trivialaugment, autoaugment or augmix",
    ),
]
