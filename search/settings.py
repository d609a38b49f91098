"""Default values, and the only reads of the environment; options' own variables are read by click.

Read by search/commands/options.py and by whoever starts a process. Knows no command. A flag wins over
`SEARCH_...`, that over the default: click sees to it, by the names that the options give it.
"""

import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from space.errors import UsageError

# What a search is, where neither a flag nor the stored study says it.
DATA: Final = "cifar10"
FIT: Final = "pad"  # of pictures that are not square; nothing of a picture is lost
MAX_PARAMETERS: Final = 5_000_000
SAMPLER: Final = "tpe"
SAMPLING: Final = "fit"
PRUNER: Final = "median"
SCORE: Final = "accuracy"  # that a search maximises
SEED: Final = 0
FINALISTS = 2  # beside the best baseline
FINAL_SEEDS = 3
VALIDATION_SHARE = 0.1
SMALL_VALIDATION_SHARE = 0.2  # below SMALL images, where a tenth would leave too wide an interval
FULL_EPOCHS = 200  # of a full training
SMALL = 10_000

# Where it runs, and how long it waits for what.
STORAGE = "sqlite:///parsimony.db"
LEASE_SECONDS = 60.0
STALL_SECONDS = 300.0
DATABASE_TIMEOUT_SECONDS = 600.0
GRACE_SECONDS = 3600.0
IDLE_SECONDS = 600.0  # without a worker: twice as long as until a closed slot is tried again
KEEP_WEIGHTS = 5
REPORT_PORT = 8090  # beside the dashboard's 8080

PLAIN_OPTUNA = "SEARCH_PLAIN_OPTUNA"
PLAIN_STEPS = "SEARCH_PLAIN_STEPS"
# Each network of a search has tensors of other sizes: pieces of memory that grow fit them all.
ALLOCATOR: Final = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}


def data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Where data sets and their caches live unless --data-dir says otherwise."""
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "parsimony"


def storage(environment: Mapping[str, str] = os.environ) -> str:
    """The database of whoever gives no --storage, in Python as in a shell, and for one that completes names.

    Raises UsageError for two variables that name one, and for a file that holds none.
    """
    given, file = environment.get("SEARCH_STORAGE"), environment.get("SEARCH_STORAGE_FILE")
    if not file:
        return given or STORAGE
    if given:
        raise UsageError("two stores: SEARCH_STORAGE and SEARCH_STORAGE_FILE are both set; unset one of them")
    from storage import url

    return url.from_file(Path(file))


def data_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of data of whoever gives no --data-dir, in Python as in a shell."""
    given = environment.get("SEARCH_DATA_DIR")
    return Path(given).expanduser() if given else data_dir(environment)


def environment_with(more: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """This process's environment and more, for a command of the user's own; the file that names a store is
    not in it where `more` names one, since two are refused."""
    hidden = {"SEARCH_STORAGE_FILE"} if "SEARCH_STORAGE" in more else set[str]()
    return {key: value for key, value in environment.items() if key not in hidden} | dict(more)


def child_environment(
    storage: str, device: Mapping[str, str], environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What a worker inherits: the database by environment (never by argv, which everyone can read), its
    device, one thread a process, since two beside a busy neighbour run ten times slower, and how torch is to
    allocate memory of a GPU, unless that is said already."""
    own = {key: value for key, value in environment.items() if not key.startswith("SEARCH_")}
    own |= {key: environment[key] for key in (PLAIN_OPTUNA, PLAIN_STEPS) if key in environment}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    path = {"PYTHONPATH": _import_path(own.get("PYTHONPATH", ""))}
    own |= {} if says_how_to_allocate(own) else ALLOCATOR
    return {**own, **path, **threads, **device, "SEARCH_STORAGE": storage}


def database_secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the database's driver reads beside the URL, for workers on machines that do not have it."""
    return {key: environment[key] for key in ("PGPASSWORD",) if key in environment}


def data_here(environment: Mapping[str, str] = os.environ) -> str | None:
    """Where the images lie on this machine, if elsewhere than the study says: --data of a worker."""
    return environment.get("SEARCH_DATA") or None


def data_from_here(environment: Mapping[str, str] = os.environ) -> str | None:
    """Who has prepared images for this machine: --data-from of a worker."""
    return environment.get("SEARCH_DATA_FROM") or None


def says_how_to_allocate(environment: Mapping[str, str]) -> bool:
    """Whether someone has told torch how to allocate memory of a GPU, by its present name or a former one."""
    return any(name in environment for name in (*ALLOCATOR, "PYTORCH_CUDA_ALLOC_CONF"))


def grow_segments(environment: MutableMapping[str, str] = os.environ) -> None:
    """What child_environment says of memory, for a worker started by hand; before torch is loaded."""
    if not says_how_to_allocate(environment):
        environment.update(ALLOCATOR)


def _import_path(paths: str) -> str:
    """PYTHONPATH of a child: where this program lies, then what is there, but never the working folder.

    Python takes an empty entry, and a dot, for that folder: a trainer.py of it would hide ours in a child. A
    checkout comes first; an installed program is found without, and site-packages must not hide the library.
    """
    program = Path(__file__).resolve().parents[1]
    own = [] if program.name in ("site-packages", "dist-packages") else [program]
    with suppress(FileNotFoundError):  # the working folder is gone: nothing can be relative to it
        here = Path.cwd().resolve()
        others = [here / entry for entry in paths.split(os.pathsep)]
        own += [entry for entry in others if entry.resolve() == program or entry.resolve() != here]
    return os.pathsep.join(dict.fromkeys(map(str, own)))


def plain_optuna(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether Optuna is to be used without our shortcuts, to find out whether a fault is theirs."""
    return environment.get(PLAIN_OPTUNA, "") not in ("", "0")


def plain_steps(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether trainings on a GPU are to do without CUDA graphs, to find out whether a fault is theirs."""
    return environment.get(PLAIN_STEPS, "") not in ("", "0")


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str] | None:
    """The GPUs that this process may use, if someone has limited them."""
    value = environment.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    listed = [part.strip() for part in value.split(",") if part.strip()]
    return listed[: listed.index("-1")] if "-1" in listed else listed  # as CUDA reads it


def given_gpu(environment: Mapping[str, str] = os.environ) -> str:
    """CUDA_VISIBLE_DEVICES as it was given to this process, "" for nothing or for no GPU, as -1 means."""
    return environment["CUDA_VISIBLE_DEVICES"] if visible_gpus(environment) else ""


def orders_by_bus(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether CUDA counts the GPUs of this process as nvidia-smi does."""
    return environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"


def pin_to_gpu(device: Mapping[str, str], environment: MutableMapping[str, str] = os.environ) -> None:
    """Limits this process to one GPU; before torch is loaded, since it reads that once."""
    environment.update(device)


def threads(environment: Mapping[str, str] = os.environ) -> int:
    """Threads that a training on the CPU may use: OMP_NUM_THREADS, of a list (one number for each level of
    nesting) the first; one where that is no number."""
    first = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(1, int(first)) if first.isdecimal() else 1


def study_name(now: datetime) -> str:
    """A name nobody had to think of, in the order of time."""
    return f"search-{now:%Y%m%d-%H%M%S}"
