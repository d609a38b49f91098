"""Which error ends a command with which exit code. Called by search/cli.py, and where a launch tells its end.

`search --help` lists them all (EXIT_CODES in search/cli.py).
"""

from space import errors

ERROR_CLASS = "--error-class"  # before a command: what was wrong is said after the class of the error

CODES = {
    errors.UsageError: 2,
    errors.NothingFitsError: 3,
    errors.NothingTrainedError: 3,
    errors.ExhaustedError: 4,
    errors.GaveUpError: 4,
    errors.EnvironmentProblem: 5,
    errors.VerificationError: 6,
}


def code_of(error: errors.ParsimonyError) -> int:
    """The exit code of a branch of the error tree."""
    return next((code for branch, code in CODES.items() if isinstance(error, branch)), 1)
