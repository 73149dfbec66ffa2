"""Starting, freezing and killing the processes of execution environments, so that none outlives the cloud."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_GUARD = Path(__file__).parent / "runtime" / "process_guard.py"


class ProcessSupervisor:
    """Owns the process groups of every execution environment.

    Two things end them when this process dies without saying so: Linux's parent-death signal, which the
    environment's bootstrap asks for, and a guard process that waits for the end of its input and also reaches
    grandchildren. The parent-death signal follows the *thread* that forked, hence one thread that lives
    as long as the supervisor.
    """

    def __init__(self) -> None:
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
        self._lock = threading.Lock()
        self._guard = subprocess.Popen(  # noqa: S603
            [sys.executable, "-S", "-E", str(_GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path, log: int
    ) -> subprocess.Popen[bytes]:
        """Start a process in a process group of its own, its output to the file descriptor ``log``."""

        def start() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(  # noqa: S603
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._tell_guard(f"+{process.pid}\n")
            return process

        return self._spawner.submit(start).result()

    def signal_group(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Signal the process and its descendants; none of them may exist any more."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)

    def reap(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the process to end, end what it left behind, and return its return code."""
        code = process.wait()
        self.signal_group(process, signal.SIGKILL)
        self._tell_guard(f"-{process.pid}\n")
        return code

    def close(self) -> None:
        """Let the guard go: it kills what is left and ends."""
        if self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                self._guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(5)
        self._spawner.shutdown(wait=False)

    def _tell_guard(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            if self._guard.stdin is not None:
                self._guard.stdin.write(line.encode())
                self._guard.stdin.flush()


def exit_status_in_words(code: int) -> str:
    """Describe a return code as Lambda does, e.g. "exit status 1" or "signal: killed"."""
    if code >= 0:
        return f"exit status {code}"
    words = {
        signal.SIGKILL: "killed",
        signal.SIGSEGV: "segmentation fault",
        signal.SIGABRT: "aborted",
        signal.SIGTERM: "terminated",
        signal.SIGBUS: "bus error",
        signal.SIGFPE: "floating point exception",
        signal.SIGILL: "illegal instruction",
        signal.SIGINT: "interrupt",
    }
    number = -code
    return f"signal: {words.get(signal.Signals(number), f'signal {number}')}"
