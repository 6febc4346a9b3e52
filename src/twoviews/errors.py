"""What can go wrong by a user's hand, each kind with its exit code.

A message is one line: what happened, where, and how to go on. The command line prints it without a traceback.
"""

from __future__ import annotations


class TwoviewsError(Exception):
    """Base of every error that a user can act on.

    Attributes:
        exit_code: of the command.
        of_all: every process of a run raises it at once, and the first one speaks for all.
    """

    exit_code = 1
    of_all = False


class SettingsError(TwoviewsError):
    """A setting or a command's usage is wrong."""

    exit_code = 2


class DataError(TwoviewsError):
    """The images, labels or folders can't be used as they are."""

    exit_code = 3


class CheckpointError(TwoviewsError):
    """A checkpoint or weights file is damaged, or belongs to another model."""

    exit_code = 4


class NumbersError(TwoviewsError):
    """A loss, gradient or weight is not finite."""

    exit_code = 5
    of_all = True


class ResourceError(TwoviewsError):
    """Disk or memory ran out, or another process works in the run folder."""

    exit_code = 6


class Stopped(TwoviewsError):
    """A signal asked the run to stop; the state was saved first."""

    of_all = True

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
