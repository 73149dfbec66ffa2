"""The log of one execution environment: a file, copied line by line to CloudWatch Logs as it grows."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

LogSink = Callable[[str, str, list[tuple[int, str]]], None]
"""Receives (log group, log stream, [(timestamp in ms, message)])."""

TAIL_BYTES = 4096
_PERIOD_S = 0.1


class LogStream:
    """An append-only file that the environment's processes and the Lambda service both write.

    Parameters
    ----------
    path
        The file.
    group, stream
        Where its lines go in CloudWatch Logs.
    """

    def __init__(self, path: Path, group: str, stream: str) -> None:
        self.path = path
        self.group = group
        self.stream = stream
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._copied_bytes = 0
        self._lock = threading.Lock()

    def write_line(self, line: str) -> None:
        """Append one line of the service's own."""
        with contextlib.suppress(OSError):
            os.write(self.descriptor, line.encode() + b"\n")

    def size_bytes(self) -> int:
        """Length so far."""
        return os.fstat(self.descriptor).st_size

    def tail(self, start: int) -> bytes:
        """Return what was written from offset ``start`` on: the last 4 KiB of it."""
        end = self.size_bytes()
        first = max(start, end - TAIL_BYTES)
        return os.pread(self.descriptor, end - first, first)

    def copy_new_lines(self, sink: LogSink, *, final: bool = False) -> None:
        """Hand complete lines that are new to the sink; an unfinished line only if it is ``final``."""
        with self._lock:
            end = self.size_bytes()
            if end <= self._copied_bytes:
                return
            data = os.pread(self.descriptor, end - self._copied_bytes, self._copied_bytes)
            if not final:
                data = data[: data.rfind(b"\n") + 1]
            self._copied_bytes += len(data)
            now_ms = int(time.time() * 1000)
            lines = [(now_ms, line) for line in data.decode(errors="replace").splitlines() if line.strip()]
            if lines:
                sink(self.group, self.stream, lines)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class LogCopier:
    """One thread that copies every open log stream to the sink, ten times a second."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._streams: list[LogStream] = []
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="log-copier", daemon=True).start()

    def add(self, stream: LogStream) -> None:
        """Copy this stream from now on."""
        with self._lock:
            self._streams.append(stream)

    def finish(self, stream: LogStream) -> None:
        """Copy what is left of the stream and close it."""
        with self._lock:
            self._streams.remove(stream)
        stream.copy_new_lines(self._sink, final=True)
        stream.close()

    def flush(self, stream: LogStream) -> None:
        """Copy what the stream has now."""
        stream.copy_new_lines(self._sink)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(_PERIOD_S):
            with self._lock:
                streams = list(self._streams)
            for stream in streams:
                with contextlib.suppress(OSError):  # closed in between
                    stream.copy_new_lines(self._sink)
