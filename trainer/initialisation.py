"""Builds the network that a recipe starts from (first weights, dropout, drop path), and its normalisation.

Takes an architecture and a recipe, draws weights from torch's generator. Called by trainer/loop.py and
trainer/throughput.py.
"""

from torch import nn
from torch.nn import functional

from space.architecture import Architecture
from space.errors import RecipeError
from trainer import model
from trainer.data.batches import Normalisation
from trainer.recipe.document import Recipe, Scale

SCALES = {
    "none": Scale(mean=(0.0,), deviation=(1.0,)),
    "cifar10": Scale(mean=(0.4914, 0.4822, 0.4465), deviation=(0.2470, 0.2435, 0.2616)),
    "imagenet": Scale(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)),
}


def network(architecture: Architecture, recipe: Recipe) -> nn.Module:
    """The network with fresh weights from torch's generator; its state has the same names in any recipe.

    First weights are those of He et al., 2015 (arXiv 1502.01852), each block an identity, or torch's own.
    """
    fitted = _with_dropout(architecture, recipe)
    built = model.build(fitted) if recipe.initial == "residual" else model.Network(fitted)
    if recipe.dropout and recipe.dropout.block_end:
        share = recipe.dropout.block_end
        for module in built.modules():
            if isinstance(module, model.Block):
                module.register_forward_hook(
                    lambda block, _, y: functional.dropout(y, share, training=block.training)
                )
    if recipe.drop_path:
        _drop_paths(built, recipe.drop_path)
    return built


def _drop_paths(network: nn.Module, last: float) -> None:
    """Stochastic depth: the share of images that skip a block's residual branch grows evenly over the blocks,
    from almost none to that of the last one (Huang et al., 2016, arXiv 1603.09382, section 3)."""
    blocks = [module for module in network.modules() if isinstance(module, model.Block)]
    for number, block in enumerate(blocks, start=1):
        if block.residual:
            block.drop_path = model.DropPath(last * number / len(blocks))


def _with_dropout(architecture: Architecture, recipe: Recipe) -> Architecture:
    if recipe.dropout is None:
        return architecture
    update = {}
    for part in ("block", "head"):
        share = getattr(recipe.dropout, part)
        if share is not None:
            update[part] = getattr(architecture, part).model_copy(update={"dropout": share})
    return architecture.model_copy(update=update)


def normalisation(recipe: Recipe, measured: Normalisation) -> Normalisation:
    """The recipe's, in grey levels. Raises RecipeError where it is for other channels than `measured`."""
    if recipe.normalisation == "measured":
        return measured
    scale = recipe.normalisation if isinstance(recipe.normalisation, Scale) else SCALES[recipe.normalisation]
    channels = len(measured.mean)
    if len(scale.mean) not in (1, channels):
        raise RecipeError(
            f"normalisation {_name(recipe)} is for {len(scale.mean)} channels, the images have {channels}"
        )
    times = channels // len(scale.mean)
    mean, deviation = ([255 * x for x in part] * times for part in (scale.mean, scale.deviation))
    return Normalisation(tuple(mean), tuple(deviation))


def _name(recipe: Recipe) -> str:
    return recipe.normalisation if isinstance(recipe.normalisation, str) else str(recipe.normalisation.mean)
