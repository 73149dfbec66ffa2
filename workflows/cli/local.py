"""``lamella local``."""

from __future__ import annotations

import os
import shlex
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from lamella.client import Stack
from lamella.errors import CloudError, InputError
from workflows.cli.cloud import CHECKOUT, deployed_cloud
from workflows.cli.console import Output
from workflows.cli.state import OpenCloud, find_open, record

_LOOK_EVERY_S = 2.0


def local(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; any free one by default.")
    ] = 0,
    state_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the cloud's files, with the functions' logs, there."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object when it is open.")] = False,
) -> None:
    """Keep an embedded cloud open, with Lamella deployed, until Ctrl-C."""
    output = Output(json)
    already = find_open(CHECKOUT)
    if already:
        raise InputError(
            f"a local cloud is open already at {already[0].environment['AWS_ENDPOINT_URL']} "
            f"(process {already[0].pid}): use it, or close it first"
        )
    _check_port(port)
    try:
        with deployed_cloud(output, port=port, state_dir=state_dir) as (cloud, stack):
            environment = cloud.environment()
            written = record(
                OpenCloud(pid=os.getpid(), checkout=str(CHECKOUT), stack=stack.name, environment=environment)
            )
            try:
                _announce(output, stack, environment, cloud.log_dir)
                _wait_while_open(cloud.port)
            finally:
                written.unlink(missing_ok=True)
    except KeyboardInterrupt:
        output.say("closed")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # As servers do: a port whose last connections are only lingering is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"port {port} can't be had ({error.strerror}): give another --port") from error


def _announce(output: Output, stack: Stack, environment: dict[str, str], log_dir: Path) -> None:
    data = {
        "endpoint": environment["AWS_ENDPOINT_URL"],
        "environment": environment,
        "stack": stack.name,
        "state_machine_arn": stack.state_machine_arn,
        "bucket": stack.bucket,
        "log_dir": str(log_dir),
        "pid": os.getpid(),
    }
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    text = "\n".join(
        [
            f"The embedded cloud is open at {data['endpoint']}. Any AWS client can use it with:",
            "",
            *exports,
            "",
            f"state machine  {stack.state_machine_arn}",
            f"bucket         {stack.bucket}",
            f"stack          {stack.name}",
            f"logs           {log_dir}",
            "",
            "Start a run with 'lamella run MODEL --input FILE', which finds this cloud by itself, or:",
            "",
            f"aws s3 cp --recursive MODEL s3://{stack.bucket}/models/mine/",
            f"aws s3 cp FILE s3://{stack.bucket}/inputs/FILE",
            f"aws stepfunctions start-execution --state-machine-arn {stack.state_machine_arn} \\",
            f'  --input \'{{"model": "s3://{stack.bucket}/models/mine/", "input": "s3://{stack.bucket}/inputs/FILE"}}\'',
            "",
            "Ctrl-C closes it.",
        ]
    )
    output.result(data, text)


def _wait_while_open(port: int) -> None:
    """Wait for Ctrl-C, or until nothing answers on the port any more."""
    while True:
        time.sleep(_LOOK_EVERY_S)
        try:
            socket.create_connection(("127.0.0.1", port), timeout=_LOOK_EVERY_S).close()
        except ConnectionRefusedError as error:
            raise CloudError(
                "the embedded cloud has ended by itself: keep its logs with --state-dir to see why"
            ) from error
        except OSError:
            # It is busy.
            continue
