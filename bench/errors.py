"""What can be wrong with what the user gave us; the command line turns these into one line and exit status 2."""


class InputError(ValueError):
    """Bad input: the message names the thing, the rule and the value."""


class MissingDataError(InputError):
    """A data set or a plug-in that is not on this machine: the message says how to get it."""


class CheckFailedError(RuntimeError):
    """A run or a check that did not succeed though its input was good: exit status 1."""


def in_a_line(error: BaseException) -> str:
    """Return the first line of what an error says; its type too, where that says more than a bad value or argument."""
    text = str(error).strip().partition("\n")[0]
    return (
        text
        if type(error) in {TypeError, ValueError, InputError, CheckFailedError}
        else f"{type(error).__name__}: {text}"
    )
