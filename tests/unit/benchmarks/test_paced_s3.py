"""The S3 that the streaming benchmark reads from is as fast as it says, and an S3."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.paced_s3 import Pace, paced_bucket


def test_ranges_and_absences_are_those_of_s3(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    data = bytes(range(256)) * 10
    (tmp_path / "folder" / "file").write_bytes(data)
    with paced_bucket(tmp_path, 1e9) as bucket:
        assert bucket.read("folder/file") == data
        assert bucket.read("folder/file", 100, 300) == data[100:300]
        assert bucket.read("folder/file", 2500, 9999) == data[2500:]
        with pytest.raises(FileNotFoundError):
            bucket.read("folder/other")


def test_all_readers_share_the_pace() -> None:
    pace = Pace(1e6)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pace.wait, [10_000] * 20))
    assert 0.19 < time.monotonic() - began < 2
