"""Every error that Lamella raises on purpose.

LamellaError                 one line: what is wrong, where, what to do
├── InputError               bad input, found before anything is launched (exit code 2)
│   ├── ModelError           not a prepared model, or not the one its manifest describes
│   ├── BatchError           samples that can't be read, or don't fit the model
│   └── PlanError            a strategy, channel or number of workers that can't be had
└── RunError                 a run that was launched and failed (exit code 1)
    ├── WorkerError          a worker failed; names it
    ├── RunAborted           the run's abort mark was seen
    │   └── Superseded       a later start of the same worker has taken over
    ├── GangIncomplete       not all workers had started by the start deadline
    ├── DeadlineExceeded     a wait that would outlast the run or the function
    ├── NonFiniteActivation  a layer produced NaN or infinity
    ├── MessageError         bytes that are no message, or don't decode within their stated bounds
    ├── LeaseError           slots or concurrency that can't be held
    └── CloudError           a cloud service refused or failed a call
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line, with every character that does not print escaped as Python writes it."""
    if text.isprintable():
        return text
    line = " ".join(line.strip() for line in text.splitlines())
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in line
    )


class LamellaError(Exception):
    """Base of all; its text is one line for the user.

    Names in it may be anybody's: what does not print, line breaks and a terminal's escapes among it, is shown
    escaped, wherever the text goes.

    Attributes
    ----------
    may_pass
        Whether a run that failed by it may succeed if its workers are all started once more.
    """

    exit_code = 1
    may_pass = False

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(LamellaError):
    """Bad input, found before anything is launched or billed."""

    exit_code = 2


class ModelError(InputError):
    """Not a prepared model, or not the one that its manifest describes."""


class BatchError(InputError):
    """Samples that can't be read, or that don't fit the model."""


class PlanError(InputError):
    """A strategy, channel or number of workers that can't be had."""


class RunError(LamellaError):
    """A run that was launched and failed."""


class WorkerError(RunError):
    """A worker failed; the text names it."""

    may_pass = True


class RunAborted(RunError):
    """The run's abort mark was seen: someone else failed or cancelled."""


class Superseded(RunAborted):
    """A later start of the same worker has taken over: this one must leave everything to it."""


class GangIncomplete(RunError):
    """Not all workers of a run had started by its start deadline; the text says how many."""


class DeadlineExceeded(RunError):
    """A wait that would outlast the run's deadline or the function's time."""

    may_pass = True


class NonFiniteActivation(RunError):
    """A layer produced NaN or infinity."""


class MessageError(RunError):
    """Bytes that are no message, or that don't decode within their stated bounds."""

    may_pass = True


class LeaseError(RunError):
    """Slots or concurrency that can't be had or held."""


class CloudError(RunError):
    """A cloud service refused or failed a call."""

    may_pass = True
