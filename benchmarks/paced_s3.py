"""An S3 of one directory, as fast as it is told to be: ``python -m benchmarks.paced_s3 DIR BYTES_PER_S``.

It answers GET of ``/bucket/key`` with and without Range, and paces the bytes of all connections together, as
a function's bandwidth does. Its port is the first line that it prints.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE, Popen

import boto3
from botocore.config import Config

from lamella.storage import Bucket

BUCKET = "paced"
READERS = 32
_CHUNK_BYTES = 64 << 10


@dataclass
class Pace:
    """One line for all connections: a chunk may go when those before it are through."""

    bytes_per_s: float
    _free_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, size: int) -> None:
        """Until ``size`` more bytes would have come through."""
        with self._lock:
            self._free_s = max(self._free_s, time.monotonic()) + size / self.bytes_per_s
            until_s = self._free_s
        time.sleep(max(0.0, until_s - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    pace: Pace

    def do_GET(self) -> None:
        path = self.root / self.path.split("?")[0].removeprefix(f"/{BUCKET}/")
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = (0, size) if asked is None else (int(asked[1]), min(int(asked[2] or size) + 1, size))
        self.send_response(200 if asked is None else 206)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{size}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            while start < stop:
                data = file.read(min(_CHUNK_BYTES, stop - start))
                self.pace.wait(len(data))
                self.wfile.write(data)
                start += len(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


@contextmanager
def paced_bucket(root: Path, bytes_per_s: float) -> Iterator[Bucket]:
    """The files of a directory, in an S3 of another process."""
    command = [sys.executable, "-m", "benchmarks.paced_s3", str(root), str(bytes_per_s)]
    with Popen(command, stdout=PIPE) as server:
        assert server.stdout is not None
        try:
            port = json.loads(server.stdout.readline())
            client = boto3.client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{port}",
                region_name="us-east-1",
                aws_access_key_id="none",
                aws_secret_access_key="none",
                config=Config(max_pool_connections=READERS, s3={"addressing_style": "path"}),
            )
            yield Bucket(client, BUCKET)
        finally:
            server.terminate()


def main() -> None:
    """Serve until terminated."""
    root, rate = sys.argv[1:]
    handler = type("Handler", (_Handler,), {"root": Path(root), "pace": Pace(float(rate))})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
