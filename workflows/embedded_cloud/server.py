"""The server process: moto and the Lambda service on one port of 127.0.0.1."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer

from workflows.embedded_cloud.clock import Clock, ClockApi
from workflows.embedded_cloud.cloud_control import CloudControlApi
from workflows.embedded_cloud.cloudwatch import cloudwatch_sink
from workflows.embedded_cloud.code_store import CodeStore
from workflows.embedded_cloud.event_bus import EventBus
from workflows.embedded_cloud.event_targets import EventTargets
from workflows.embedded_cloud.faults.application import FaultsApi, FaultyApplication
from workflows.embedded_cloud.faults.plan import FaultPlan
from workflows.embedded_cloud.lambda_api import LambdaApi, StartResponse
from workflows.embedded_cloud.lambda_functions import LambdaFunctions
from workflows.embedded_cloud.lambda_service import LambdaService
from workflows.embedded_cloud.messaging_api import MessagingApi
from workflows.embedded_cloud.patches.apply import apply_all
from workflows.embedded_cloud.patches.context import LARGEST_MEMORY_MB, CloudContext
from workflows.embedded_cloud.scheduler import Scheduler
from workflows.embedded_cloud.stacks.response_inbox import ResponseInbox

DEFAULT_CONCURRENCY = 1000
LISTEN_BACKLOG = 1024


class OwnApi(Protocol):
    """Answers some requests itself."""

    def takes(self, environ: dict[str, Any]) -> bool:
        """Whether a request is one of those."""

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one of them."""


class CloudApplication:
    """WSGI: what is of our own, everything else to moto.

    Parameters
    ----------
    own
        Each is asked whether a request is its.
    """

    def __init__(self, *own: OwnApi) -> None:
        self._own = own
        self._rest = MessagingApi(DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        for api in self._own:
            if api.takes(environ):
                return api(environ, start_response)
        return self._rest(environ, start_response)


class _Handler(MotoRequestHandler):  # type: ignore[misc]
    """Keeps connections open, sends small answers at once, logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: a run makes thousands of requests."""


class _Server(ThreadedWSGIServer):
    request_queue_size = LISTEN_BACKLOG
    daemon_threads = True
    block_on_close = False


class CloudServer:
    """Everything that runs in the server process.

    Parameters
    ----------
    port
        0 lets the system choose.
    state_directory
        For logs, code and temporary files.
    cache_directory
        For unzipped packages; may be shared by clouds, at the same time too.
    concurrency
        Lambda executions that the account may have at once.
    largest_memory_mb
        Memory that the account may give a function.
    without_patches
        Names of changes to moto that are left out.
    """

    def __init__(
        self,
        port: int,
        state_directory: Path,
        cache_directory: Path,
        concurrency: int,
        largest_memory_mb: int = LARGEST_MEMORY_MB,
        without_patches: frozenset[str] = frozenset(),
    ) -> None:
        self._server: BaseWSGIServer = _Server("127.0.0.1", port, _not_ready, handler=_Handler)
        self.port: int = self._server.port
        self.log_directory = state_directory / "logs"
        endpoint_url = f"http://127.0.0.1:{self.port}"
        self._lambda = LambdaService(
            endpoint_url, state_directory, self.log_directory, cloudwatch_sink(), concurrency
        )
        functions = LambdaFunctions(self._lambda, CodeStore(cache_directory), state_directory / "runtimes")
        self._scheduler = Scheduler(Clock())
        inbox = ResponseInbox(endpoint_url)
        context = CloudContext(
            endpoint_url,
            self.log_directory,
            functions,
            self._scheduler,
            EventTargets(endpoint_url, functions, self._scheduler),
            EventBus(),
            inbox,
            largest_memory_mb,
            FaultPlan(),
        )
        apply_all(context, without=without_patches)
        clock_api = ClockApi(self._scheduler.clock, self._scheduler.advance)
        faults_api = FaultsApi(context.faults)
        whole = CloudApplication(LambdaApi(functions), clock_api, faults_api, inbox, CloudControlApi())
        self._server.app = FaultyApplication(whole, context.faults, self._lambda)
        self._scheduler.start()
        self._stopping = threading.Lock()

    def serve(self) -> None:
        """Answer requests until :meth:`stop`, then end every Lambda process."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self._server.server_close()
            self._scheduler.close()
            self._lambda.close()

    def stop(self) -> None:
        """Make :meth:`serve` return; may be called from any thread, more than once."""
        if self._stopping.acquire(blocking=False):
            threading.Thread(target=self._server.shutdown, daemon=True).start()


def _not_ready(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response("503 Service Unavailable", [("Content-Length", "0")])
    return [b""]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server process."""
    options = _parse(arguments)
    if options.die_with_parent:
        _die_with_parent(options.die_with_parent)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("moto").setLevel(logging.ERROR)
    with contextlib.ExitStack() as cleanup:
        state = options.state_dir or Path(
            cleanup.enter_context(tempfile.TemporaryDirectory(prefix="embedded-cloud-"))
        )
        state = state.resolve()
        cache = (options.cache_dir or state / "unzipped").resolve()
        left_out = frozenset(options.without_patch)
        server = CloudServer(
            options.port, state, cache, options.concurrency, options.largest_memory_mb, left_out
        )
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: server.stop())
        if options.watch_stdin:
            threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
        _announce(options.ready_file, server)
        server.serve()
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workflows.embedded_cloud", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: any free one")
    parser.add_argument(
        "--state-dir", type=Path, help="logs and temporary files; default: a temporary directory"
    )
    parser.add_argument("--cache-dir", type=Path, help="unzipped packages; default: in the state directory")
    parser.add_argument(
        "--concurrency", type=int, default=DEFAULT_CONCURRENCY, help="concurrent Lambda executions"
    )
    parser.add_argument(
        "--largest-memory-mb",
        type=int,
        default=LARGEST_MEMORY_MB,
        help="memory that a function may have; 3008 in an account that is new to Lambda",
    )
    parser.add_argument(
        "--without-patch", action="append", default=[], help="leave out a change to moto: for tests"
    )
    parser.add_argument("--ready-file", type=Path, help="written when ready: {port, pid, log_dir}")
    parser.add_argument("--watch-stdin", action="store_true", help="stop at the end of standard input")
    parser.add_argument(
        "--die-with-parent", type=int, metavar="PID", help="(Linux) end with this parent process"
    )
    return parser.parse_args(arguments)


def _announce(ready_file: Path | None, server: CloudServer) -> None:
    ready = json.dumps({"port": server.port, "pid": os.getpid(), "log_dir": str(server.log_directory)})
    if ready_file is None:
        sys.stdout.write(ready + "\n")
        sys.stdout.flush()
        return
    partial = ready_file.with_suffix(".partial")
    partial.write_text(ready)
    partial.rename(ready_file)


def _stop_at_end_of_input(server: CloudServer) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    server.stop()


def _die_with_parent(parent: int) -> None:
    """Have Linux send SIGTERM when the parent dies, even if another of its children holds the pipe open."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
