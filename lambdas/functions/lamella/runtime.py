"""What a handler has at hand: configuration, clients whose calls are counted, and a logger."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import boto3
from botocore.config import Config as ClientConfig

from lamella.block_cache import BlockCache
from lamella.config import Config
from lamella.deadline import Deadline
from lamella.logs import begin_logging, log_failure
from lamella.metering import Meter
from lamella.storage import Bucket
from lamella.usage import Usage, lambda_usage

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

# Of a call that a service leaves without an answer; the longest that is meant to wait for one is a long poll.
CONNECT_S, READ_S = 3, 15
LAST_LOOK_S = 2.0  # a wait that its deadline ends looks once more, and then says itself what it missed
CALL_S = LAST_LOOK_S + CONNECT_S + READ_S
"""How long a call may outlast a deadline that bounds it."""

LAST_CALL_S = 1.0  # no call begins in a function's last second
_CLIENT = ClientConfig(
    retries={"mode": "standard", "max_attempts": 6},
    max_pool_connections=32,
    connect_timeout=CONNECT_S,
    read_timeout=READ_S,
)


Answer = TypeVar("Answer")


class LambdaContext(Protocol):
    """What Lambda passes to a handler."""

    aws_request_id: str
    memory_limit_in_mb: str
    log_stream_name: str

    def get_remaining_time_in_millis(self) -> int: ...


class Runtime:
    """One per execution environment; `begin` starts an invocation.

    What outlives an invocation is its clients, and the blocks of weights that it had room to keep.

    Clients are made when first asked for: each costs a cold start some 20 ms.
    """

    def __init__(self) -> None:
        self.config = Config.read()
        self.logger, self._recent = begin_logging()
        self.meter = Meter()
        self.blocks = BlockCache()
        self._session = boto3.session.Session()
        self.meter.attach(self._session)
        self._session.events.register("before-send", self._refuse_late_calls)
        self._function_end = self._calls_until = Deadline.after(math.inf)
        self._cold = True
        self._began_s = 0.0
        self._init_s = 0.0
        self._memory_mb = 0

    def begin(self, context: LambdaContext, **keys: Any) -> None:
        """Count this invocation from here; ``keys`` go into each of its log lines."""
        self._init_s = process_age_s() if self._cold else 0.0
        self._cold = False
        self._began_s = time.monotonic()
        self._memory_mb = int(context.memory_limit_in_mb)
        self._function_end = Deadline.after(context.get_remaining_time_in_millis() / 1000 - LAST_CALL_S)
        self._calls_until = self._function_end
        self.meter.take()
        self._begin_log(context, **keys)

    def logged(
        self, handler: Callable[[dict[str, Any], LambdaContext], Answer]
    ) -> Callable[[dict[str, Any], LambdaContext], Answer]:
        """A handler whose errors are logged with its invocation's keys; Lambda logs them without."""

        @wraps(handler)
        def call(event: dict[str, Any], context: LambdaContext) -> Answer:
            # Until the event is read, lines have no keys of the invocation before.
            self._begin_log(context)
            try:
                return handler(event, context)
            except Exception as error:
                log_failure(self.logger, error)
                raise

        return call

    @property
    def last_lines(self) -> tuple[str, ...]:
        """What this invocation logged, the last lines of it."""
        return self._recent.lines

    def _begin_log(self, context: LambdaContext, **keys: Any) -> None:
        self._recent.clear()
        self.logger.clear_state()
        self.logger.append_keys(request_id=context.aws_request_id, **keys)

    @property
    def function_end(self) -> Deadline:
        """When Lambda ends this invocation, a moment kept back."""
        return self._function_end

    def bound_calls(self, deadline: Deadline | None) -> None:
        """Begin no call, and try none again, `LAST_LOOK_S` after a deadline or at the function's end.

        A call after that raises `DeadlineExceeded`; one that is under way and has no answer ends within
        `CALL_S` of the deadline.

        Parameters
        ----------
        deadline
            None for the function's end alone.
        """
        end = self._function_end
        self._calls_until = end.sooner(deadline.earlier(-LAST_LOOK_S)) if deadline else end

    def usage(self) -> Usage:
        """Of the invocation so far: its requests, and its own time."""
        spent_s = time.monotonic() - self._began_s
        return self.meter.usage() + lambda_usage(spent_s, self._memory_mb, self._init_s)

    def _refuse_late_calls(self, event_name: str, **_: Any) -> None:
        """Called before each attempt of a call; botocore tries no further after an error of ours."""
        self._calls_until.check(
            f"the time was up before {event_name.partition('.')[2]} was called: raise WorkerTimeout, or ask "
            "for more workers or fewer samples"
        )

    @property
    def memory_mb(self) -> int:
        return self._memory_mb

    @property
    def bucket(self) -> Bucket:
        """The stack's own."""
        return Bucket(self.s3, self.config.bucket)

    @cached_property
    def s3(self) -> S3Client:
        return self._session.client("s3", config=_CLIENT)

    @cached_property
    def sns(self) -> SNSClient:
        return self._session.client("sns", config=_CLIENT)

    @cached_property
    def sqs(self) -> SQSClient:
        return self._session.client("sqs", config=_CLIENT)

    @cached_property
    def lambda_(self) -> LambdaClient:
        return self._session.client("lambda", config=_CLIENT)

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        return self._session.client("cloudformation", config=_CLIENT)

    @cached_property
    def stepfunctions(self) -> SFNClient:
        return self._session.client("stepfunctions", config=_CLIENT)


def process_age_s() -> float:
    """Seconds since this process was started: what a cold start's INIT took. 0 where /proc does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, uptime_s - ticks / os.sysconf("SC_CLK_TCK"))


def peak_memory_bytes() -> int:
    """Most memory that this process has had. 0 where /proc does not say.

    Not from getrusage: that begins with what the process that started this one had.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0
