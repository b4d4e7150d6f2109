"""Errors that a user can cause or mend, with the exit code each one ends in.

ApcError (1)
├── ConfigError (2)      a wrong option, configuration key or missing credential
├── DataError (65)       input data that cannot be read as what it should be
└── TryAgainLater (75)   locked, rate limited, over budget: the same command may work later
"""


class ApcError(Exception):
    """A failure explained to the user as one sentence and, where there is one, the way out."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(ApcError):
    """The command line, a configuration file or the environment is wrong."""

    exit_code = 2


class DataError(ApcError):
    """An input file or a checkpoint is not what it should be."""

    exit_code = 65


class TryAgainLater(ApcError):
    """Nothing is wrong with the request; the same command may succeed later."""

    exit_code = 75
