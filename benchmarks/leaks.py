"""What runs left on an embedded cloud that they should not have: processes, queues, objects, leases."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass

import psutil

from lamella.client import Stack
from lamella.layout import RUNS, SLOT_LEASES, UPLOADS
from workflows.embedded_cloud import EmbeddedCloud

LOOK_S = 0.25


@dataclass(frozen=True)
class Watcher:
    """Compares a stack with how it was when runs began.

    Attributes
    ----------
    queues, objects
        URLs and keys that were there.
    """

    cloud: EmbeddedCloud
    stack: Stack
    queues: frozenset[str]
    objects: frozenset[str]

    @classmethod
    def begin(cls, cloud: EmbeddedCloud, stack: Stack) -> Watcher:
        """From now on."""
        return cls(cloud, stack, frozenset(_queues(cloud)), frozenset(stack.files().sizes()))

    def leaks(self, within_s: float) -> list[str]:
        """What is still there after that time, in words; returns as soon as nothing is."""
        until_s = time.monotonic() + within_s
        while (found := self._now()) and time.monotonic() < until_s:
            time.sleep(LOOK_S)
        return found

    def _now(self) -> list[str]:
        queues = [f"queue {url.rpartition('/')[2]}" for url in _queues(self.cloud) if url not in self.queues]
        keys = self.stack.files().sizes()
        # What is the user's lies directly below the run's folder.
        kept = re.compile(rf"{RUNS}[^/]+/([^/]+|errors/.*)$|{UPLOADS}|{re.escape(SLOT_LEASES)}$")
        objects = [f"object {key}" for key in keys if key not in self.objects and not kept.match(key)]
        uploads = [
            f"upload {upload['Key']}"
            for upload in self.cloud.client("s3")
            .list_multipart_uploads(Bucket=self.stack.bucket)
            .get("Uploads", [])
        ]
        return queues + objects + uploads + self._leases(keys) + running_functions(self.cloud)

    def _leases(self, keys: dict[str, int]) -> list[str]:
        if SLOT_LEASES not in keys:
            return []
        table = json.loads(self.stack.files().read(SLOT_LEASES))
        return [f"lease {name}: {held}" for name, held in table.items() if name != "nonce" and held]


def running_functions(cloud: EmbeddedCloud) -> list[str]:
    """Processes of functions that are computing; between invocations they are stopped, as Lambda's are."""
    found = []
    for process in psutil.Process(cloud.pid).children(recursive=True):
        try:
            is_function = any(argument.endswith("bootstrap.py") for argument in process.cmdline())
            if is_function and process.status() != psutil.STATUS_STOPPED:
                found.append(f"process {process.pid}")
        except psutil.NoSuchProcess:
            continue
    return found


def _queues(cloud: EmbeddedCloud) -> list[str]:
    urls: list[str] = cloud.client("sqs").list_queues().get("QueueUrls", [])
    return urls
