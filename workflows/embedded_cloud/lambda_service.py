"""Lambda: finds or starts an execution environment for each invocation, and keeps account of concurrency."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from workflows.embedded_cloud.execution_environment import EnvironmentGoneError, ExecutionEnvironment
from workflows.embedded_cloud.invocation import FunctionConfig, Invocation, Outcome
from workflows.embedded_cloud.log_streams import LogCopier, LogSink
from workflows.embedded_cloud.memory_monitor import MemoryMonitor
from workflows.embedded_cloud.processes import ProcessSupervisor

IDLE_LIMIT_S = 600.0
ASYNC_RETRY_DELAYS_S = (1.0, 2.0)
"""On AWS one minute, then two: docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html."""
_THROTTLED_RETRY_S = 0.5
_ASYNC_WORKERS = 256

_log = logging.getLogger(__name__)


class TooManyRequestsError(Exception):
    """More executions at once than the account, or the function, may have.

    Attributes
    ----------
    reason
        AWS's word for which limit it was.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("Rate Exceeded.")
        self.reason = reason


@dataclass
class _Pool:
    """The execution environments of one version of a function, most recently used last."""

    config: FunctionConfig
    idle: list[ExecutionEnvironment] = field(default_factory=list)
    all: set[ExecutionEnvironment] = field(default_factory=set)


class LambdaService:
    """Runs functions in processes of their own.

    Parameters
    ----------
    endpoint_url
        The cloud, for AWS clients in handlers.
    state_directory
        For temporary files of environments.
    log_directory
        For one log file per environment.
    log_sink
        CloudWatch Logs.
    concurrency
        How many executions the account may have at once.
    """

    def __init__(
        self,
        endpoint_url: str,
        state_directory: Path,
        log_directory: Path,
        log_sink: LogSink,
        concurrency: int,
    ) -> None:
        self.concurrency = concurrency
        self.log_directory = log_directory
        self._endpoint_url = endpoint_url
        self._environments_directory = state_directory / "environments"
        self._environments_directory.mkdir(parents=True, exist_ok=True)
        log_directory.mkdir(parents=True, exist_ok=True)
        self._supervisor = ProcessSupervisor()
        self._monitor = MemoryMonitor()
        self._copier = LogCopier(log_sink)
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str], _Pool] = {}
        self._running: dict[tuple[str, str], int] = defaultdict(int)
        self._async = ThreadPoolExecutor(_ASYNC_WORKERS, thread_name_prefix="async-invoke")
        self._closed = threading.Event()
        threading.Thread(target=self._stop_idle_environments, name="idle-environments", daemon=True).start()

    def invoke(self, config: FunctionConfig, invocation: Invocation, reserved: int | None = None) -> Outcome:
        """Run one invocation and wait for it.

        Parameters
        ----------
        reserved
            Concurrency that the function is limited to, if it has a limit of its own.

        Raises
        ------
        TooManyRequestsError
            If the account or the function has no execution to spare.
        """
        with self._concurrency_slot(config, reserved):
            while True:
                environment = self._take_environment(config)
                try:
                    outcome = environment.run(invocation)
                except EnvironmentGoneError:
                    self._drop(config, environment)
                    invocation.started.clear()
                    invocation.finished.clear()
                    continue
                if outcome.environment_died:
                    self._drop(config, environment)
                else:
                    self._give_back(config, environment)
                return outcome

    def invoke_async(
        self,
        config: Callable[[], FunctionConfig],
        invocation: Invocation,
        retries: int,
        reserved: int | None = None,
        on_end: Callable[[Outcome], None] | None = None,
    ) -> None:
        """Queue one invocation; a handler that fails is tried again, a throttled one until it may run."""
        self._async.submit(self._run_async, config, invocation, retries, reserved, on_end)

    def retire(self, keep: Callable[[FunctionConfig], bool]) -> None:
        """Stop idle environments of functions that are gone or changed; busy ones stop when they are done."""
        with self._lock:
            stale = [pool for pool in self._pools.values() if not keep(pool.config)]
            for pool in stale:
                self._pools.pop(pool.config.pool_key, None)
            environments = [environment for pool in stale for environment in pool.idle]
        for environment in environments:
            environment.stop()

    def signal(self, environment: str, number: signal.Signals) -> None:
        """Send a signal to the processes of an execution environment, if it is there."""
        with self._lock:
            found = [
                each for pool in self._pools.values() for each in pool.all if each.identifier == environment
            ]
        for each in found:
            each.signal(number)

    def running(self) -> int:
        """Executions at this moment."""
        with self._lock:
            return sum(self._running.values())

    def close(self) -> None:
        """Stop every environment and wait for the processes to be gone."""
        self._closed.set()
        self._async.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            environments = [environment for pool in self._pools.values() for environment in pool.all]
            self._pools.clear()
        for environment in environments:
            environment.stop()
        for environment in environments:
            with contextlib.suppress(Exception):
                environment.process.wait(2)
        self._monitor.close()
        self._copier.close()
        self._supervisor.close()
        shutil.rmtree(self._environments_directory, ignore_errors=True)

    @contextlib.contextmanager
    def _concurrency_slot(self, config: FunctionConfig, reserved: int | None) -> Iterator[None]:
        key = config.pool_key
        with self._lock:
            if reserved is not None and self._running[key] >= reserved:
                raise TooManyRequestsError("ReservedFunctionConcurrentInvocationLimitExceeded")
            if sum(self._running.values()) >= self.concurrency:
                raise TooManyRequestsError("ConcurrentInvocationLimitExceeded")
            self._running[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[key] -= 1

    def _take_environment(self, config: FunctionConfig) -> ExecutionEnvironment:
        stale: list[ExecutionEnvironment] = []
        with self._lock:
            pool = self._pools.get(config.pool_key)
            if pool is None or pool.config != config:
                stale = pool.idle if pool else []
                pool = self._pools[config.pool_key] = _Pool(config)
            found = pool.idle.pop() if pool.idle else None
        for environment in stale:
            environment.stop()
        if found is not None:
            return found
        started = ExecutionEnvironment(
            config,
            self._endpoint_url,
            self._environments_directory,
            self.log_directory,
            self._supervisor,
            self._monitor,
            self._copier,
        )
        with self._lock:
            pool.all.add(started)
        return started

    def _give_back(self, config: FunctionConfig, environment: ExecutionEnvironment) -> None:
        with self._lock:
            pool = self._pools.get(config.pool_key)
            if pool is not None and pool.config == config and not self._closed.is_set():
                pool.idle.append(environment)
                return
        environment.stop()

    def _drop(self, config: FunctionConfig, environment: ExecutionEnvironment) -> None:
        with self._lock:
            pool = self._pools.get(config.pool_key)
            if pool is not None:
                pool.all.discard(environment)
        environment.stop()

    def _run_async(
        self,
        config: Callable[[], FunctionConfig],
        invocation: Invocation,
        retries: int,
        reserved: int | None,
        on_end: Callable[[Outcome], None] | None,
    ) -> None:
        attempt = 0
        while not self._closed.is_set():
            try:
                # The request id stays the same over retries, as on AWS.
                again = Invocation(
                    invocation.payload, invocation.client_context, request_id=invocation.request_id
                )
                outcome = self.invoke(config(), again, reserved)
            except TooManyRequestsError:
                self._closed.wait(_THROTTLED_RETRY_S)
                continue
            except Exception:
                _log.exception("asynchronous invocation %s", invocation.request_id)
                return
            if outcome.function_error is None or attempt >= retries:
                if on_end is not None:
                    on_end(outcome)
                return
            self._closed.wait(ASYNC_RETRY_DELAYS_S[min(attempt, len(ASYNC_RETRY_DELAYS_S) - 1)])
            attempt += 1

    def _stop_idle_environments(self) -> None:
        while not self._closed.wait(15.0):
            oldest = time.monotonic() - IDLE_LIMIT_S
            with self._lock:
                expired: list[ExecutionEnvironment] = []
                for pool in self._pools.values():
                    expired += [environment for environment in pool.idle if environment.idle_since < oldest]
                    pool.idle = [environment for environment in pool.idle if environment.idle_since >= oldest]
                    pool.all.difference_update(expired)
            for environment in expired:
                environment.stop()


def describe_outcome(outcome: Outcome) -> object:
    """The payload as an object, for destinations and events."""
    try:
        return json.loads(outcome.payload)
    except ValueError:
        return outcome.payload.decode(errors="replace")
