"""Every error that Parsimony raises on purpose, drawn as one tree.

    ParsimonyError                    something a person can act on; one line
    ├── UsageError                    a flag or a file is wrong
    │   ├── ArchitectureError         an architecture document
    │   ├── SpaceError                a space document
    │   ├── RecipeError               a recipe document
    │   ├── CheckpointError           a checkpoint that is damaged, or of another training
    │   └── StudyError                no such study, or one that was made with other settings
    ├── NothingFitsError              the budget is below the smallest network of the space
    ├── NothingTrainedError           one network is wanted, and none was trained to the end yet
    ├── ExhaustedError                every network of the space was tried
    ├── GaveUpError                   too many networks in a row came to nothing
    ├── EnvironmentProblem            the world, not the request
    │   ├── StorageError              database
    │   │   ├── UnreachableError      it does not answer, or broke the connection
    │   │   ├── AccessError           this user may not do there what is asked for
    │   │   └── StoreGoneError        its file was deleted or replaced while it was in use
    │   ├── DataError                 data set
    │   ├── DeviceError               GPU
    │   └── ClusterError              Dask cluster
    ├── VerificationError             an exported file is not what it says
    ├── DivergedError                 a training whose loss is not a number
    └── LeaseLostError                a worker was declared dead while it worked

It knows nothing of exit codes: the command line gives each branch its own.
"""


class ParsimonyError(Exception):
    """Base of the tree. The message is one line: the offending value, and what to do next."""


class UsageError(ParsimonyError):
    """What the caller gave is wrong: a flag, a file, or the two together."""


class ArchitectureError(UsageError):
    """An architecture document is not one, or is for other images than those at hand."""


class SpaceError(UsageError):
    """A search space document is not one, or no network can be drawn from it."""


class RecipeError(UsageError):
    """A recipe document is not one, repeats a known mistake, or does not fit the images."""


class CheckpointError(UsageError):
    """A checkpoint or a file of weights is absent, damaged, or of another training."""


class StudyError(UsageError):
    """No study or trial has this name, the name is taken, or the settings are not those of the study."""


class NothingFitsError(ParsimonyError):
    """The budget is below the smallest network of the space."""


class NothingTrainedError(ParsimonyError):
    """One network of a study is wanted, and none was trained to the end yet."""


class ExhaustedError(ParsimonyError):
    """Every network that the space proposes was tried already, or none fits."""


class GaveUpError(ParsimonyError):
    """The search of a study ended: too many networks in a row diverged, timed out or failed otherwise."""


class EnvironmentProblem(ParsimonyError):
    """The world fails and not the request: a disk, a network, a device."""


class StorageError(EnvironmentProblem):
    """The database cannot be reached or written, or its tables are not of this version."""


class UnreachableError(StorageError):
    """The database does not answer, or broke the connection: later it may."""


class AccessError(StorageError):
    """This user may not do in the database what is asked for; waiting does not help, a right does."""


class StoreGoneError(StorageError):
    """The file of a SQLite store was deleted or replaced while it was in use: waiting does not help."""


class DataError(EnvironmentProblem):
    """The images of a data set are absent, unreadable, too few, or not those of the study."""


class DeviceError(EnvironmentProblem):
    """The device is not there, is of no supported kind, or has too little memory for a full training."""


class ClusterError(EnvironmentProblem):
    """The Dask cluster cannot be reached, runs another version, or offers no place for a worker."""


class VerificationError(ParsimonyError):
    """An exported file does not hold what it says it holds."""


class DivergedError(ParsimonyError):
    """The loss of a training is infinite or not a number; a lower learning rate may help."""


class LeaseLostError(ParsimonyError):
    """A worker was taken for dead while it worked, and its trial is somebody else's now."""
