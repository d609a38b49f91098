"""The optimizers there are, and what each is used with unless a recipe says otherwise.

Read by trainer/recipe/document.py and checks.py, and by trainer/optimizers.py, which builds them. Free of
torch.

Sources: SGD with Nesterov's momentum, Sutskever et al., 2013; Muon, Jordan et al., 2024; Adam, Kingma and Ba,
2014 (arXiv 1412.6980); AdamW, Loshchilov and Hutter, 2017 (1711.05101); RAdam, Liu et al., 2019 (1908.03265);
RMSprop, Tieleman and Hinton, 2012; Adagrad, Duchi et al., 2011; Adadelta, Zeiler, 2012 (1212.5701).
"""

from typing import Literal, NamedTuple

OptimizerName = Literal["sgd", "muon", "adam", "adamw", "radam", "rmsprop", "adagrad", "adadelta"]


class OptimizerDefaults(NamedTuple):
    """The range that learning rates usually come from, and what holds where a recipe says nothing."""

    lowest: float
    rate: float
    highest: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False


# Adam's kin move every weight by about the rate, whatever the gradient; SGD by the rate times the gradient.
# AdamW decays by rate * weight_decay a step, as SGD does: 0.001 * 0.05 is SGD's 0.1 * 5e-4.
OPTIMIZER_DEFAULTS: dict[str, OptimizerDefaults] = {
    "sgd": OptimizerDefaults(1e-3, 0.1, 2.0, weight_decay=5e-4, momentum=0.9, nesterov=True),
    "muon": OptimizerDefaults(1e-3, 0.4, 2.0, weight_decay=5e-4, momentum=0.9, nesterov=True),
    "adam": OptimizerDefaults(1e-5, 1e-3, 1e-2),
    "adamw": OptimizerDefaults(1e-5, 1e-3, 1e-2, weight_decay=0.05),
    "radam": OptimizerDefaults(1e-5, 1e-3, 1e-2),
    "rmsprop": OptimizerDefaults(1e-5, 1e-3, 1e-2),
    "adagrad": OptimizerDefaults(1e-3, 1e-2, 0.2),
    "adadelta": OptimizerDefaults(1e-2, 1.0, 5.0),
}
WITH_MOMENTUM = ("sgd", "muon", "rmsprop")
WITH_NESTEROV = ("sgd", "muon")  # whose learning rates are each other's too
WITH_BETAS = ("adam", "adamw", "radam")
COUPLED = ("adam", "radam", "rmsprop")  # L2 enters the gradient, and is divided by its size
