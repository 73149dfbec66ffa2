"""Starting an embedded cloud from another process, and talking to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config

from workflows.embedded_cloud.errors import EmbeddedCloudError

CLOCK_PATH = "/_embedded/clock"
FAULTS_PATH = "/_embedded/faults"
EMAIL_LOG = "emails.jsonl"
REGION = "us-east-1"
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


class EmbeddedCloud:
    """A local AWS: one server process, and a process per Lambda execution environment under it.

    Use as a context manager; whatever way the calling process ends, the cloud and its processes end too.

    Attributes
    ----------
    endpoint_url
        For any AWS client.
    port
        On 127.0.0.1.
    log_dir
        One log file per Lambda execution environment.
    state_dir
        Logs, code and temporary files.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, state_dir: Path, log_dir: Path) -> None:
        self.port = port
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self.state_dir = state_dir
        self.log_dir = log_dir
        self._process = process
        self._clients: dict[tuple[str, str], Any] = {}
        self._temporary: Path | None = None
        self._lock = threading.Lock()

    @classmethod
    def start(
        cls,
        state_dir: Path | None = None,
        port: int = 0,
        *,
        cache_dir: Path | None = None,
        concurrency: int = 1000,
        largest_memory_mb: int | None = None,
        server_options: Sequence[str] = (),
    ) -> EmbeddedCloud:
        """Start a cloud and wait until it answers.

        Parameters
        ----------
        state_dir
            Kept; default: a temporary directory that is removed by :meth:`stop`.
        port
            0 lets the system choose.
        cache_dir
            Where deployment packages are unzipped; give one that lasts to unzip large layers only once.
        concurrency
            Lambda executions that the account may have at once; 10 where it is new to Lambda.
        largest_memory_mb
            Memory that the account may give a function: 3,008 where it is new to Lambda.
        server_options
            More arguments of ``python -m workflows.embedded_cloud``.

        Raises
        ------
        EmbeddedCloudError
            If it does not start.
        """
        temporary = None
        if state_dir is None:
            state_dir = temporary = Path(tempfile.mkdtemp(prefix="embedded-cloud-"))
        state_dir = state_dir.resolve()
        state_dir.mkdir(parents=True, exist_ok=True)
        ready_file = state_dir / "ready.json"
        ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "workflows.embedded_cloud", "--watch-stdin"]
        command += ["--port", str(port), "--state-dir", str(state_dir), "--ready-file", str(ready_file)]
        command += ["--concurrency", str(concurrency), *server_options]
        if largest_memory_mb is not None:
            command += ["--largest-memory-mb", str(largest_memory_mb)]
        if cache_dir is not None:
            command += ["--cache-dir", str(cache_dir.resolve())]
        with (state_dir / "server.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                command,
                cwd=state_dir,
                env={**os.environ, "PYTHONPATH": _own_python_path()},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            ready = _wait_until_ready(process, ready_file, state_dir / "server.log")
        except BaseException:
            process.kill()
            process.wait()
            if temporary:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        cloud = cls(process, ready["port"], state_dir, Path(ready["log_dir"]))
        cloud._temporary = temporary
        return cloud

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def stop(self) -> None:
        """End the server and every Lambda process; may be called more than once."""
        with self._lock:
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Return the variables that make any AWS tool use this cloud."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "embedded",
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }

    def client(self, service: str, **config: Any) -> Any:
        """Return a boto3 client for this cloud, one per ``config``, which goes to botocore's Config."""
        key = service, repr(sorted(config.items()))
        with self._lock:
            if key not in self._clients:
                self._clients[key] = client_for(self.endpoint_url, service, **config)
            return self._clients[key]

    def now(self) -> datetime:
        """The time by the cloud's clock."""
        return self._clock(None)

    def advance(self, seconds: float) -> datetime:
        """Move the cloud's clock forward, which schedules follow, and return its time.

        When it returns, everything that has become due was sent to its target, each due time once.

        Raises
        ------
        EmbeddedCloudError
            If the clock cannot be moved by that.
        """
        return self._clock(json.dumps({"advance_s": seconds}).encode())

    def fail(self, rules: Sequence[Mapping[str, Any]], seed: int = 0) -> None:
        """Replace the rules of what fails; with none, nothing does.

        Parameters
        ----------
        rules
            Each with fields of :class:`workflows.embedded_cloud.faults.Rule`, as
            ``{"service": "s3", "operation": "GetObject", "fault": "throttle", "times": 3}``.
        seed
            Of what is drawn at random.

        Raises
        ------
        EmbeddedCloudError
            If a rule is none.
        """
        self._own(FAULTS_PATH, json.dumps({"rules": list(rules), "seed": seed}).encode())

    def failures(self) -> list[dict[str, Any]]:
        """What was made to fail since the rules were set, in order: service, operation, fault, rule."""
        happened: list[dict[str, Any]] = self._own(FAULTS_PATH, None)["happened"]
        return happened

    def emails(self) -> list[dict[str, Any]]:
        """Return what topics would have mailed to e-mail subscriptions, oldest first; nothing is mailed.

        Each has to, subject, message, topic_arn and confirmed, as ``emails.jsonl`` in :attr:`log_dir` has it:
        :class:`workflows.embedded_cloud.patches.sns_email.EmailLog`.
        """
        file = self.log_dir / EMAIL_LOG
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def _clock(self, body: bytes | None) -> datetime:
        return datetime.fromisoformat(self._own(CLOCK_PATH, body)["now"])

    def _own(self, path: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(self.endpoint_url + path, body)  # noqa: S310
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise EmbeddedCloudError(json.load(error)["message"]) from error

    def __enter__(self) -> EmbeddedCloud:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def client_for(endpoint_url: str, service: str, **config: Any) -> Any:
    """Return a boto3 client for the cloud at ``endpoint_url``, whatever AWS settings this machine has."""
    settings = {"max_pool_connections": 100, "retries": {"total_max_attempts": 2}, **config}
    return boto3.session.Session("embedded", "embedded", region_name=REGION).client(  # type: ignore[call-overload]
        service,
        endpoint_url=endpoint_url,
        config=Config(s3={"addressing_style": "path"}, **settings),
    )


def _own_python_path() -> str:
    """Where ``workflows`` is imported from, before what the caller has."""
    root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return f"{root}{os.pathsep}{inherited}" if inherited else root


def _wait_until_ready(process: subprocess.Popen[bytes], ready_file: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if ready_file.exists():
            ready: dict[str, Any] = json.loads(ready_file.read_text())
            return ready
        if process.poll() is not None:
            tail = log.read_text(errors="replace").strip().splitlines()[-1:]
            reason = tail[0] if tail else f"exit status {process.returncode}"
            raise EmbeddedCloudError(f"The embedded cloud did not start: {reason}")
        time.sleep(0.02)
    raise EmbeddedCloudError(f"The embedded cloud did not start within {_READY_TIMEOUT_S:.0f} s; see {log}")
