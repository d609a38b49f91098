"""Every error that Parsimony raises on purpose, drawn as one tree.

    ParsimonyError                    something a person can act on; one line
    ├── UsageError                    a flag or a file is wrong
    │   ├── ArchitectureError         an architecture document
    │   ├── SpaceError                a space document
    │   ├── RecipeError               a recipe document
    │   ├── CheckpointError           a checkpoint that is damaged, or of another training
    │   └── StudyError                no such study, or one that was made with other settings
    ├── NothingFitsError              the budget is below the smallest network of the space
    ├── ExhaustedError                every network of the space was tried
    ├── EnvironmentProblem            the world, not the request
    │   ├── StorageError              database
    │   ├── DataError                 data set
    │   └── DeviceError               GPU
    ├── VerificationError             an exported file is not what it says
    ├── DivergedError                 a training whose loss is not a number
    └── LeaseLostError                a worker was declared dead while it worked

It knows nothing of exit codes: the command line gives each branch its own.
"""


class ParsimonyError(Exception):
    """Base of the tree. The message is one line: the offending value, and what to do next."""


class UsageError(ParsimonyError):
    pass


class ArchitectureError(UsageError):
    pass


class SpaceError(UsageError):
    pass


class RecipeError(UsageError):
    pass


class CheckpointError(UsageError):
    pass


class StudyError(UsageError):
    pass


class NothingFitsError(ParsimonyError):
    pass


class ExhaustedError(ParsimonyError):
    pass


class EnvironmentProblem(ParsimonyError):
    pass


class StorageError(EnvironmentProblem):
    pass


class DataError(EnvironmentProblem):
    pass


class DeviceError(EnvironmentProblem):
    pass


class VerificationError(ParsimonyError):
    pass


class DivergedError(ParsimonyError):
    pass


class LeaseLostError(ParsimonyError):
    pass
