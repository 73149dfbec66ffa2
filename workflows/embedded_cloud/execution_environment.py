"""An execution environment: one OS process that runs a function's handler for one invocation at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from workflows.embedded_cloud.invocation import FunctionConfig, Invocation, Outcome, error_payload
from workflows.embedded_cloud.log_streams import LogCopier, LogStream
from workflows.embedded_cloud.memory_monitor import MemoryMonitor, Watch, resident_and_peak_bytes
from workflows.embedded_cloud.platform_log import PlatformLog
from workflows.embedded_cloud.processes import ProcessSupervisor, exit_status_in_words
from workflows.embedded_cloud.runtime_api import RuntimeApi

INIT_TIMEOUT_S = 60.0
"""AWS allows 10 s; here a gang of functions may initialise at once on two cores."""

_MIB = 1 << 20
_KILL_WAIT_S = 2.0


class EnvironmentGoneError(Exception):
    """The environment ended before it took the invocation, which another one can serve."""


class ExecutionEnvironment:
    """The process, its Runtime API, its log and its memory watch.

    Between invocations the process group is stopped, as code does not run between invocations on AWS either.

    Parameters
    ----------
    config
        The function.
    endpoint_url
        The cloud, for AWS clients in the handler.
    directory
        For the temporary files of environments.
    log_directory
        For the log file.
    """

    def __init__(
        self,
        config: FunctionConfig,
        endpoint_url: str,
        directory: Path,
        log_directory: Path,
        supervisor: ProcessSupervisor,
        monitor: MemoryMonitor,
        copier: LogCopier,
    ) -> None:
        self.config = config
        self.idle_since = time.monotonic()
        self._supervisor = supervisor
        self._monitor = monitor
        self._copier = copier
        self._changed = threading.Condition()
        self._current: Invocation | None = None
        self._taken = False
        self._frozen = False
        self._dead = False
        self._init_error: bytes | None = None
        self._init_ms: float | None = None
        self._init_reported = False
        self._log_start = 0
        self.identifier = identifier = uuid.uuid4().hex
        self._temporary = directory / identifier[:16]
        self._temporary.mkdir(parents=True)
        self._log = LogStream(
            log_directory / f"{config.name}-{identifier[:12]}.log",
            config.log_group,
            _stream_name(config, identifier),
        )
        copier.add(self._log)
        self._platform = PlatformLog(self._log, config)
        self._api = RuntimeApi(self)
        self._platform.init_start()
        self._spawned_at = time.monotonic()
        with self._changed:  # the runtime may ask for its first invocation before this returns
            self.process: subprocess.Popen[bytes] = supervisor.spawn(
                [str(config.executable), "-S", "-s", str(config.runtime_directory / "bootstrap.py")],
                self._environment_variables(endpoint_url),
                config.code,
                self._log.descriptor,
            )
        self._watch = Watch(self.process.pid, config.memory_mb * _MIB, self._kill)
        monitor.add(self._watch)
        threading.Thread(target=self._wait_for_exit, name=f"wait-{self.process.pid}", daemon=True).start()

    # what the Lambda service asks for

    @property
    def alive(self) -> bool:
        """Whether it can serve another invocation."""
        return not self._dead

    def run(self, invocation: Invocation) -> Outcome:
        """Serve one invocation, however long it takes.

        Raises
        ------
        EnvironmentGoneError
            If the process had ended before.
        """
        with self._changed:
            if self._dead and not (self._init_error or not self._init_ms):
                raise EnvironmentGoneError
            self._current, self._taken = invocation, False
            self._log_start = self._log.size_bytes()
            if self._dead:
                self._end_with_exit(invocation)
            else:
                self._thaw()
                self._changed.notify_all()
        if not invocation.started.wait(INIT_TIMEOUT_S):
            self._time_out(invocation, INIT_TIMEOUT_S)
        elif not invocation.finished.wait(self.config.timeout_s):
            self._time_out(invocation, self.config.timeout_s)
        invocation.finished.wait()
        self.idle_since = time.monotonic()
        if invocation.outcome is None:
            raise EnvironmentGoneError
        return invocation.outcome

    def stop(self) -> None:
        """End the process; an invocation that it runs ends with Runtime.ExitError."""
        self._kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its descendants."""
        self._supervisor.signal_group(self.process, number)

    # what the runtime asks for (RuntimeEvents)

    def next_invocation(self) -> tuple[Mapping[str, str], bytes] | None:
        """Hand out the next invocation, and freeze the process until there is one."""
        with self._changed:
            if self._init_ms is None:
                self._init_ms = (time.monotonic() - self._spawned_at) * 1000
            while not self._dead:
                if self._current is not None and not self._taken:
                    return self._take(self._current)
                self._freeze()
                self._changed.wait()
            return None

    def respond(self, request_id: str, payload: bytes) -> bool:
        """End the running invocation with the handler's reply."""
        return self._finish(request_id, payload, None)

    def fail(self, request_id: str, payload: bytes) -> bool:
        """End the running invocation with the handler's error."""
        return self._finish(request_id, payload, "Unhandled")

    def fail_to_respond(self, request_id: str) -> None:
        """End the running invocation: its reply is too large."""
        message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
        self._finish(request_id, error_payload("Function.ResponseSizeTooLarge", message), "Unhandled")

    def fail_to_initialize(self, payload: bytes) -> None:
        """Remember why the handler cannot be loaded: the first invocation ends with it."""
        self._init_error = payload

    # inside

    def _take(self, invocation: Invocation) -> tuple[Mapping[str, str], bytes]:
        self._taken = True
        self._platform.start(invocation.request_id)
        self._monitor.add(self._watch)
        invocation.mark_started()
        deadline_ms = int((time.time() + self.config.timeout_s) * 1000)
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": self.config.arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id or _new_trace_id(),
        }
        if invocation.client_context:
            headers["Lambda-Runtime-Client-Context"] = invocation.client_context
        return headers, invocation.payload

    def _finish(self, request_id: str, payload: bytes, function_error: str | None) -> bool:
        with self._changed:
            invocation = self._current
            if invocation is None or invocation.request_id != request_id or not self._taken:
                return False
            self._watch.peak_bytes = max(self._watch.peak_bytes, resident_and_peak_bytes(self.process.pid)[1])
            if self._watch.peak_bytes > self._watch.limit_bytes:  # between two samples
                self._kill()
                return True  # it dies of it, and the invocation with it
            self._conclude(invocation, payload, function_error)
            return True

    def _conclude(
        self,
        invocation: Invocation,
        payload: bytes,
        error: str | None,
        *,
        died: bool = False,
        release: bool = True,
    ) -> None:
        """Write the report and let the caller go; the lock is held."""
        duration_ms = (time.monotonic() - invocation.started_at) * 1000 if invocation.started_at else 0.0
        init_ms = None if self._init_reported else self._init_ms
        self._init_reported = True
        peak_mb = min(-(-self._watch.peak_bytes // _MIB), self.config.memory_mb)
        error_type = _error_type(payload) if error else None
        self._platform.report(invocation.request_id, duration_ms, peak_mb, init_ms, error_type)
        self._current = None
        self._monitor.remove(self._watch)
        invocation.outcome = Outcome(payload, error, self._log.tail(self._log_start), died)
        if release:
            _release(invocation)

    def _time_out(self, invocation: Invocation, limit_s: float) -> None:
        message = f"Task timed out after {limit_s:.2f} seconds"
        with self._changed:
            if invocation.finished.is_set():
                return
            self._log.write_line(f"{_now()} {invocation.request_id} {message}")
            payload = error_payload("Sandbox.Timedout", message, invocation.request_id)
            self._dead = True
            self._conclude(invocation, payload, "Unhandled", died=True, release=False)
        self._kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_KILL_WAIT_S)  # its connections are closed when the caller goes on
        _release(invocation)

    def _wait_for_exit(self) -> None:
        self._supervisor.reap(self.process)
        with self._changed:
            self._dead = True
            self._monitor.remove(self._watch)
            if self._current is not None:
                self._end_with_exit(self._current)
            self._changed.notify_all()
        self._api.close()
        self._copier.finish(self._log)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _end_with_exit(self, invocation: Invocation) -> None:
        """End an invocation whose process has ended; the lock is held."""
        if self._init_error is not None:
            self._conclude(invocation, self._init_error, "Unhandled", died=True)
        elif self._taken or self._init_ms is None:
            code = self.process.returncode
            words = f"with error: {exit_status_in_words(code)}" if code else "without providing a reason"
            payload = error_payload("Runtime.ExitError", f"Runtime exited {words}", invocation.request_id)
            self._conclude(invocation, payload, "Unhandled", died=True)
        else:  # it died idle: the invocation never reached it
            _release(invocation)

    def _freeze(self) -> None:
        if not self._frozen:
            self._frozen = True
            self._monitor.remove(self._watch)
            self._supervisor.signal_group(self.process, signal.SIGSTOP)

    def _thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            self._supervisor.signal_group(self.process, signal.SIGCONT)

    def _kill(self) -> None:
        self._supervisor.signal_group(self.process, signal.SIGKILL)

    def _environment_variables(self, endpoint_url: str) -> dict[str, str]:
        """Environment variables: docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html."""
        config = self.config
        libraries = [p for layer in reversed(config.layers) for p in _python_paths(layer, config.python)]
        variables = {
            **dict(config.environment),
            "_HANDLER": config.handler,
            "_EMBEDDED_CLOUD_PID": str(os.getpid()),
            "_EMBEDDED_CLOUD_FILE_BYTES": str(config.temporary_storage_mb * _MIB),
            "AWS_ACCESS_KEY_ID": config.access_key,
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_SESSION_TOKEN": self.identifier,
            "AWS_REGION": config.region,
            "AWS_DEFAULT_REGION": config.region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.runtime}",
            "AWS_LAMBDA_FUNCTION_NAME": config.name,
            "AWS_LAMBDA_FUNCTION_VERSION": config.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": config.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self._log.stream,
            "AWS_LAMBDA_RUNTIME_API": self._api.address,
            "LAMBDA_TASK_ROOT": str(config.code),
            "LAMBDA_RUNTIME_DIR": str(config.runtime_directory),
            "HOME": str(self._temporary),
            "TMPDIR": str(self._temporary),
        }
        if config.log_json:
            variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        if config.log_level:
            variables["AWS_LAMBDA_LOG_LEVEL"] = config.log_level
        defaults = {
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "PATH": os.pathsep.join([str(config.executable.parent), "/usr/local/bin", "/usr/bin", "/bin"]),
            "LD_LIBRARY_PATH": os.pathsep.join(
                [str(config.code), str(config.code / "lib"), *(str(layer / "lib") for layer in config.layers)]
            ),
            "PYTHONPATH": os.pathsep.join([*libraries, str(config.runtime_directory)]),
        }
        return defaults | variables


def _release(invocation: Invocation) -> None:
    invocation.started.set()
    invocation.finished.set()


def _python_paths(layer: Path, version: str) -> list[str]:
    return [str(layer / "python" / "lib" / f"python{version}" / "site-packages"), str(layer / "python")]


def _stream_name(config: FunctionConfig, identifier: str) -> str:
    """A log group that is not the function's own has the function in its streams' names."""
    function = "" if config.log_group == f"/aws/lambda/{config.name}" else config.name
    return f"{datetime.now(UTC):%Y/%m/%d}/{function}[{config.version}]{identifier}"


def _new_trace_id() -> str:
    return f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]};Sampled=0"


def _error_type(payload: bytes) -> str:
    try:
        return str(json.loads(payload).get("errorType", "Function.Unknown"))
    except (ValueError, AttributeError):
        return "Function.Unknown"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
