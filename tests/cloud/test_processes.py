"""However the cloud ends, no process of it is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cloud.helpers import invoke, is_running, make_function, wait_until
from workflows.embedded_cloud import EmbeddedCloud, EmbeddedCloudError

ROOT = Path(__file__).parents[2]


def busy_cloud(state_dir: Path) -> tuple[EmbeddedCloud, list[int]]:
    """A cloud with a frozen environment whose handler left a child behind, and all its process ids."""
    cloud = EmbeddedCloud.start(state_dir)
    cloud.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")
    answer, _ = invoke(cloud, make_function(cloud), {"orphan": True})
    family = [child.pid for child in psutil.Process(cloud.pid).children(recursive=True)]
    assert {answer["pid"], answer["child"]} <= set(family)
    wait_until(lambda: psutil.Process(answer["pid"]).status() == psutil.STATUS_STOPPED)
    return cloud, [cloud.pid, *family]


def assert_all_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(is_running(pid) for pid in pids))


@pytest.mark.parametrize("ending", ["stop", "SIGTERM", "SIGKILL"])
def test_no_process_is_left(tmp_path: Path, ending: str) -> None:
    cloud, pids = busy_cloud(tmp_path)
    try:
        if ending == "stop":
            cloud.stop()
            assert not any(is_running(pid) for pid in pids)
        else:
            os.kill(cloud.pid, getattr(signal, ending))
        assert_all_gone(pids)
    finally:
        cloud.stop()


def test_no_process_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = Path(__file__).parent / "sample" / "parent.py"
    command = [sys.executable, str(script), str(tmp_path / "state")]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) >= 3
        parent.kill()
        parent.wait()
        assert_all_gone(pids)
    finally:
        with contextlib.suppress(OSError):
            parent.kill()


def test_temporary_state_is_removed() -> None:
    with EmbeddedCloud.start() as cloud:
        assert cloud.log_dir.is_dir()
    assert not cloud.state_dir.exists()
    cloud.stop()


def test_port_in_use_is_said(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedCloudError, match=r"(?i)in use"):
        EmbeddedCloud.start(tmp_path, port=cloud.port)


@pytest.fixture(scope="module")
def limited() -> Iterator[EmbeddedCloud]:
    """An account that may run one function at once, of memory as one that is new to Lambda."""
    with EmbeddedCloud.start(concurrency=1, largest_memory_mb=3008) as started:
        started.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")
        yield started


def test_account_concurrency_limit(limited: EmbeddedCloud) -> None:
    client = limited.client("lambda", retries={"total_max_attempts": 1})
    assert client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 1
    names = [make_function(limited) for _ in range(2)]
    client.invoke(FunctionName=names[0], InvocationType="Event", Payload=b'{"sleep_s": 2}')
    wait_until(lambda: list(limited.log_dir.glob(f"{names[0]}-*.log")))
    with pytest.raises(client.exceptions.TooManyRequestsException):
        client.invoke(FunctionName=names[1])
    wait_until(lambda: can_invoke(limited, names[1]))


def test_account_memory_limit(limited: EmbeddedCloud) -> None:
    client = limited.client("lambda")
    name = make_function(limited, MemorySize=3008)
    refusal = "less than or equal to 3008"
    with pytest.raises(client.exceptions.InvalidParameterValueException, match=refusal):
        make_function(limited, MemorySize=3009)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match=refusal):
        client.update_function_configuration(FunctionName=name, MemorySize=10_240)
    assert client.get_function_configuration(FunctionName=name)["MemorySize"] == 3008


def can_invoke(cloud: EmbeddedCloud, name: str) -> bool:
    client = cloud.client("lambda", retries={"total_max_attempts": 1})
    try:
        client.invoke(FunctionName=name)
    except client.exceptions.TooManyRequestsException:
        return False
    return True
