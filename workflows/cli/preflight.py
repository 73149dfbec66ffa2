"""What can be found wrong with a run before anything is launched for it."""

from __future__ import annotations

import math
from pathlib import Path

from lamella.client import Stack, explained
from lamella.errors import BatchError, InputError, ModelError
from lamella.events import CHANNELS, STRATEGIES, RunRequest, check_name
from lamella.inputs import check_id_column, read_batch
from lamella.manifest import Manifest, read_manifest
from lamella.planner import Capacity, possible
from lamella.storage import Bucket, split_s3_uri
from lamella.verify import verify_files

_MANY = 2**40


def is_s3(text: str) -> bool:
    """Whether a path is an S3 address."""
    return text.startswith("s3://")


def check_names(strategy: str, channel: str) -> None:
    """Refuse a strategy or channel that there isn't.

    Raises
    ------
    PlanError
        Naming the nearest.
    """
    check_name("strategy", strategy, STRATEGIES)
    check_name("channel", channel, CHANNELS)


def check_model(model: str, stack: Stack | None) -> Manifest:
    """The manifest of a model, whose files, if they are local, are those that were prepared.

    Raises
    ------
    ModelError
        If it is no prepared model, or a file is not the one that was prepared.
    """
    if is_s3(model):
        with explained(f"reading {model}"):
            return read_manifest(bucket_files(model, stack))
    directory = Path(model)
    if not directory.exists():
        raise ModelError(
            f"there is no {directory}: make a model with 'lamella prep SOURCE --out {directory}'"
        )
    return verify_files(directory)


def check_plan(
    manifest: Manifest,
    samples: int | None,
    strategy: str,
    channel: str,
    workers: int | None,
    slots: int | None,
    micro_batches: int | None = None,
) -> None:
    """Refuse what can't be planned for the model; what the account allows is Plan's to check.

    Parameters
    ----------
    samples, slots
        None where that is not known here.

    Raises
    ------
    PlanError
        Such as for more workers than rows, or no cut for them.
    """
    request = RunRequest(
        model="s3://b/m/",
        input="s3://b/i",
        strategy=strategy,
        channel=channel,
        workers=workers,
        micro_batches=micro_batches,
    )
    possible(request, manifest, samples or _MANY, Capacity(slots or _MANY, _MANY, [_MANY]))


def check_limits(deadline_s: float | None, budget_usd: float | None) -> None:
    """Refuse a deadline or budget that nothing can keep.

    Raises
    ------
    InputError
        If one is not positive.
    """
    for name, value in (("--deadline", deadline_s), ("--budget", budget_usd)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} {value:g}: give a number of more than 0")


def check_input(
    path: str, features: int, samples: int | None, id_column: str | None, stack: Stack | None
) -> int | None:
    """How many samples there are; those in S3 are read by Plan, and only looked for here.

    Raises
    ------
    BatchError
        If there are none, or they can't be read, or don't fit the model.
    """
    check_id_column(path, id_column)
    if is_s3(path):
        files = bucket_files(path.rpartition("/")[0] + "/", stack)
        with explained(f"looking for {path}"):
            there = files.exists(path.rpartition("/")[2])
        if not there:
            raise BatchError(f"there is no {path}, or it may not be read: check --input")
        return samples
    file = Path(path)
    if not file.is_file():
        raise BatchError(f"there is no file {file}: check --input")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BatchError(f"{file} can't be read: {error.strerror}") from error
    return read_batch(data, str(file), features, samples, id_column).samples


def bucket_files(address: str, stack: Stack | None) -> Bucket:
    """The objects below an S3 address.

    Raises
    ------
    InputError
        If there is no stack whose account could read it.
    """
    if stack is None:
        raise InputError(
            f"{address} needs a cloud to read it from: give --stack NAME, or open 'lamella local'"
        )
    bucket, key = split_s3_uri(address)
    return Bucket(stack.clients.s3, bucket, key if not key or key.endswith("/") else key + "/")
