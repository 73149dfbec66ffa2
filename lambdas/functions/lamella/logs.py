"""One JSON object a line, of whatever writes to a function's log: Lamella, libraries, warnings, tracebacks.

Each has the keys of the invocation, which `lamella.runtime.Runtime` sets: ``run``, ``attempt``, ``worker``,
``layer`` (that the worker is at, from 0) and ``request_id``, as far as there are such. What Lambda itself
writes (its reports, and a second line for an error that a handler raised) has the same as ``requestId``.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from typing import TextIO

from aws_lambda_powertools import Logger

from lamella.errors import LamellaError

SERVICE = "lamella"
LAST_LINES = 20
_OF_LAMBDA = "awslambdaric"


class _Others(logging.Handler):
    """Writes what is not Lamella's own: that has its handler, and comes to the root besides."""

    def __init__(self, stream: TextIO, logger: Logger, recent: RecentLines) -> None:
        super().__init__()
        self._stream, self._recent = stream, recent
        self.setFormatter(logger.registered_formatter)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == SERVICE or record.name.startswith(f"{SERVICE}."):
            return
        self._stream.write(self.format(record) + "\n")
        self._recent.handle(record)


class RecentLines(logging.Handler):
    """Keeps the last lines that were logged, for who asks what a worker said before it failed."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self.setFormatter(logger.registered_formatter)

    @property
    def lines(self) -> tuple[str, ...]:
        """Oldest first, as they were written."""
        return tuple(self._lines)

    def clear(self) -> None:
        """Forget those of the invocation before."""
        self._lines.clear()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


def begin_logging() -> tuple[Logger, RecentLines]:
    """Lamella's logger; inside Lambda, everything else that is logged takes its form too."""
    logger = Logger(service=SERVICE)
    recent = RecentLines(logger)
    own = logging.getLogger(SERVICE)
    for handler in [handler for handler in own.handlers if isinstance(handler, RecentLines)]:
        own.removeHandler(handler)
    own.addHandler(recent)
    _take_over(logger, recent)
    return logger, recent


def log_failure(logger: Logger, error: Exception) -> None:
    """The line of an invocation that fails: Lamella's own errors say all in one, others have a traceback."""
    ours = isinstance(error, LamellaError)
    logger.error(str(error), error=type(error).__name__, exc_info=None if ours else error)


def _take_over(logger: Logger, recent: RecentLines) -> None:
    """Write what others log in Lamella's form instead of that of Lambda's runtime client, if this is here."""
    root = logging.getLogger()
    theirs = [handler for handler in root.handlers if type(handler).__module__.startswith(_OF_LAMBDA)]
    if not theirs:
        return
    for handler in theirs:
        root.removeHandler(handler)
    root.addHandler(_Others(sys.stdout, logger, recent))
    # What libraries tell of each client that is made is no news, and CloudWatch bills it.
    root.setLevel(logging.DEBUG if root.level == logging.DEBUG else logging.WARNING)
    logging.captureWarnings(capture=True)

    def uncaught(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "unnamed"
        logger.error(f"thread {name} failed: {args.exc_value}", exc_info=args.exc_value)

    threading.excepthook = uncaught
