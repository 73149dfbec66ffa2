"""Fifty clients race for one object by conditional writes: each change is made once, and none is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from tests.cloud.helpers import unique
from workflows.embedded_cloud import EmbeddedCloud

RACERS, PROCESSES = 50, 5
# Each thread puts its name to the end of a list, by reading it and writing it If-Match, until it is there.
RACER = """
import json, sys, threading, uuid
from concurrent.futures import ThreadPoolExecutor
from botocore.exceptions import ClientError
from workflows.embedded_cloud.launcher import client_for

endpoint_url, bucket, process, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
s3 = client_for(endpoint_url, "s3")

def join(thread):
    while True:
        found = s3.get_object(Bucket=bucket, Key="list")
        names = json.loads(found["Body"].read())
        body = json.dumps([*names, f"{process}-{thread}"]).encode()
        try:
            s3.put_object(Bucket=bucket, Key="list", Body=body, IfMatch=found["ETag"])
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] in {409, 412}, error
        else:
            return

with ThreadPoolExecutor(threads) as pool:
    list(pool.map(join, range(threads)))
"""


def test_of_fifty_creations_one_succeeds(cloud: EmbeddedCloud) -> None:
    s3, bucket, start = cloud.client("s3"), unique("race"), threading.Barrier(RACERS)
    s3.create_bucket(Bucket=bucket)

    def create(racer: int) -> Any:
        start.wait()
        try:
            s3.put_object(Bucket=bucket, Key="made-once", Body=str(racer).encode(), IfNoneMatch="*")
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]
        return racer

    with ThreadPoolExecutor(RACERS) as pool:
        outcomes = list(pool.map(create, range(RACERS)))
    winner = int(s3.get_object(Bucket=bucket, Key="made-once")["Body"].read())
    assert outcomes[winner] == winner
    assert {outcome for racer, outcome in enumerate(outcomes) if racer != winner} <= {409, 412}


def test_of_fifty_clients_in_five_processes_each_makes_its_change_once(cloud: EmbeddedCloud) -> None:
    s3, bucket = cloud.client("s3"), unique("race")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="list", Body=b"[]")
    threads = RACERS // PROCESSES
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, cloud.endpoint_url, bucket, str(process), str(threads)]
        )
        for process in range(PROCESSES)
    ]
    assert [racer.wait(120) for racer in racers] == [0] * PROCESSES
    names = json.loads(s3.get_object(Bucket=bucket, Key="list")["Body"].read())
    assert sorted(names) == sorted(f"{p}-{t}" for p in range(PROCESSES) for t in range(threads))
