"""What a caller does with a deployed Lamella: upload, start, watch, fetch. boto3 alone."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config as ClientConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from lamella import errors, layout
from lamella.errors import CloudError, InputError, LamellaError, RunError
from lamella.events import RunRequest
from lamella.manifest import MANIFEST, Manifest
from lamella.progress import LogFollower, WorkerProgress
from lamella.slots import slots_of
from lamella.storage import Bucket, split_s3_uri
from lamella.verify import verify_files

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_stepfunctions import SFNClient

_NOT_SET_UP = (NoCredentialsError, NoRegionError, PartialCredentialsError, ProfileNotFound)
# A function is waited for as long as it may run, and asked only once.
_CALLING = ClientConfig(read_timeout=910, retries={"total_max_attempts": 1})
_FRESH_S = 12 * 3600
FINISH_S = 30.0  # within which a stopped run is finished, if its report is still to come
_INPUT_ERRORS = {"InputError", "ModelError", "BatchError", "PlanError"}


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what boto3 raises into one line that begins with ``what``."""
    try:
        yield
    except _NOT_SET_UP as error:
        raise InputError(
            f"{what}: {str(error).rstrip('.')}: set credentials and region as for the AWS command line, "
            "or use --local"
        ) from error
    except ClientError as error:
        told = error.response.get("Error", {})
        raise CloudError(f"{what} failed: {told.get('Code')}: {told.get('Message')}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise CloudError(f"{what} failed: {one_line(str(error))}") from error


@dataclass(frozen=True)
class Clients:
    """The boto3 clients that a caller needs."""

    cloudformation: CloudFormationClient
    lambda_: LambdaClient
    logs: CloudWatchLogsClient
    s3: S3Client
    stepfunctions: SFNClient

    @classmethod
    def connect(cls, environment: Mapping[str, str] | None = None) -> Clients:
        """As the process's own AWS settings say, or, for an embedded cloud, as ``environment`` does.

        Parameters
        ----------
        environment
            ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_DEFAULT_REGION``.

        Raises
        ------
        InputError
            If there are no credentials or no region.
        """
        with explained("connecting to AWS"):
            if environment is None:
                session, endpoint = boto3.Session(), None
            else:
                endpoint = environment["AWS_ENDPOINT_URL"]
                session = boto3.Session(
                    aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
                    aws_session_token=environment.get("AWS_SESSION_TOKEN"),
                    region_name=environment["AWS_DEFAULT_REGION"],
                )
            return cls(
                cloudformation=session.client("cloudformation", endpoint_url=endpoint),
                lambda_=session.client("lambda", endpoint_url=endpoint, config=_CALLING),
                logs=session.client("logs", endpoint_url=endpoint),
                s3=session.client("s3", endpoint_url=endpoint),
                stepfunctions=session.client("stepfunctions", endpoint_url=endpoint),
            )


@dataclass(frozen=True)
class Stack:
    """A deployed Lamella.

    Attributes
    ----------
    worker_log_groups
        Where the workers log, for progress; may be empty.
    slots
        How many workers the channel sns serves at once; None if the stack does not say.
    sweep_function
        What removes what dead runs left; None if the stack has none.
    """

    name: str
    bucket: str
    state_machine_arn: str
    worker_log_groups: tuple[str, ...]
    clients: Clients
    slots: int | None = None
    sweep_function: str | None = None

    @classmethod
    def find(cls, name: str, clients: Clients) -> Stack:
        """A stack by its CloudFormation name.

        Raises
        ------
        InputError
            If there is none, or it is not Lamella's.
        """
        try:
            with explained(f"looking for stack {name}"):
                stacks = clients.cloudformation.describe_stacks(StackName=name)["Stacks"]
        except CloudError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"].get("Code") == "ValidationError":
                region = clients.cloudformation.meta.region_name
                raise InputError(
                    f"there is no stack {name!r} in {region}: deploy it with 'sam deploy', or check --stack"
                ) from error
            raise
        outputs = {item["OutputKey"]: item["OutputValue"] for item in stacks[0].get("Outputs", [])}
        return cls.of_outputs(name, outputs, clients)

    @classmethod
    def of_outputs(cls, name: str, outputs: Mapping[str, str], clients: Clients) -> Stack:
        """A stack by the outputs of its template.

        Raises
        ------
        InputError
            If they are not those of Lamella's template.
        """
        missing = [key for key in ("BucketName", "StateMachineArn") if key not in outputs]
        if missing:
            raise InputError(
                f"stack {name!r} has no output {missing[0]}: it is no Lamella, or not deployed whole"
            )
        groups = [
            group.strip()
            for key, value in sorted(outputs.items())
            if key.startswith("Worker") and "LogGroup" in key
            for group in value.split(",")
        ]
        return cls(
            name,
            outputs["BucketName"],
            outputs["StateMachineArn"],
            tuple(groups),
            clients,
            slots_of(outputs["GroupsOfSlots"]) if "GroupsOfSlots" in outputs else None,
            outputs.get("SweepFunctionName"),
        )

    def files(self, prefix: str = "") -> Bucket:
        """The stack's bucket."""
        return Bucket(self.clients.s3, self.bucket, prefix)


@dataclass(frozen=True)
class RunHandle:
    """A run that was started, or is about to be."""

    stack: Stack
    run_id: str
    started_s: float

    @property
    def execution_arn(self) -> str:
        """As the machine and the name make it (Service Authorization Reference, Step Functions)."""
        return f"{self.stack.state_machine_arn.replace(':stateMachine:', ':execution:')}:{self.run_id}"


def upload_model(stack: Stack, directory: Path, verified: Manifest | None = None) -> str:
    """Put a prepared model into the stack's bucket, once; its S3 address.

    Its place is named by its manifest's hash, so the same model is never uploaded twice. The manifest goes
    last: where it is, all is.

    Parameters
    ----------
    verified
        What `lamella.verify.verify_files` returned, if it was called just before.

    Raises
    ------
    ModelError
        As `lamella.verify.verify_files`.
    """
    manifest = verified or verify_files(directory)
    digest = _sha256(directory / MANIFEST)
    place = stack.files(f"{layout.MODELS}{digest[:32]}/")
    sizes = {name: stored.bytes for name, stored in sorted(manifest.files.items())}
    for name, size in {**sizes, MANIFEST: (directory / MANIFEST).stat().st_size}.items():
        _upload(directory / name, size, place, name)
    return place.location()


def upload_input(stack: Stack, path: Path) -> str:
    """Put a file of samples into the stack's bucket; its S3 address.

    Not below inputs/, where it might start a run of its own. What is there expires, in a day at the earliest;
    so only what was put there lately is not put again.
    """
    try:
        digest, size = _sha256(path), path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    place = stack.files(f"{layout.UPLOADS}{digest}/")
    _upload(path, size, place, path.name, fresh_s=_FRESH_S)
    return place.location(path.name)


def new_run_id(now_s: float | None = None) -> str:
    """A name for a run that sorts by time (UTC)."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_s))}-{secrets.token_hex(3)}"


def new_run(stack: Stack) -> RunHandle:
    """A run to be started with `start`; so it can be stopped even while it is being started."""
    now_s = time.time()
    return RunHandle(stack, new_run_id(now_s), now_s)


def start(run: RunHandle, request: RunRequest) -> None:
    """Start a run."""
    asked = request.model_dump(exclude_defaults=True)
    with explained(f"starting run {run.run_id}"):
        run.stack.clients.stepfunctions.start_execution(
            stateMachineArn=run.stack.state_machine_arn, name=run.run_id, input=json.dumps(asked)
        )


def watch(
    run: RunHandle,
    on_progress: Callable[[WorkerProgress], None] | None = None,
    *,
    poll_s: float = 0.5,
    progress_s: float = 1.0,
    on_look: Callable[[], None] | None = None,
) -> str:
    """Wait for a run's end; its final status.

    Parameters
    ----------
    on_progress
        Called with what workers log of their progress, at most every ``progress_s`` seconds; it may come
        late, or not at all where the logs can't be read.
    poll_s
        Seconds between two looks at the execution.
    on_look
        Called at each of them.
    """
    follower = None
    if on_progress is not None:
        follower = LogFollower(
            run.stack.clients.logs, run.stack.worker_log_groups, run.run_id, run.started_s, progress_s
        )
    while True:
        status: str = _execution(run)["status"]
        if on_look is not None:
            on_look()
        if follower is not None and on_progress is not None:
            for progress in follower.poll(at_once=status != "RUNNING"):
                on_progress(progress)
        if status != "RUNNING":
            return status
        time.sleep(poll_s)


def stop(run: RunHandle) -> None:
    """Stop a run; its workers leave by themselves."""
    with explained(f"stopping run {run.run_id}"):
        run.stack.clients.stepfunctions.stop_execution(
            executionArn=run.execution_arn, error="Stopped", cause="stopped by the user"
        )


def summary(run: RunHandle) -> dict[str, Any]:
    """What a finished run answered.

    Raises
    ------
    InputError
        If what was asked for is not possible; the kind that Plan found.
    RunError
        If the run failed, or was stopped.
    """
    execution = _execution(run)
    if execution["status"] == "SUCCEEDED":
        answer: dict[str, Any] = json.loads(execution["output"])
        return answer
    if execution["status"] in {"ABORTED", "RUNNING"}:
        raise RunError(f"run {run.run_id} was stopped")
    name = execution.get("error") or execution["status"]
    cause = _reason(execution.get("cause", ""))
    if name in _INPUT_ERRORS:
        kind: type[LamellaError] = getattr(errors, name)
        raise kind(cause or f"run {run.run_id} was refused")
    # Lamella's own errors explain themselves; a service's name tells where to look it up.
    told = cause if cause and hasattr(errors, name) else f"{name}: {cause}" if cause else name
    raise RunError(f"{told} (run {run.run_id} failed)")


def details(run: RunHandle) -> dict[str, Any]:
    """The whole summary of a run that succeeded, with every worker's own figures."""
    keys = layout.RunKeys(run.run_id)
    with explained(f"reading the summary of run {run.run_id}"):
        whole: dict[str, Any] = json.loads(run.stack.files().read(keys.summary))
    return whole


def report_files(run: RunHandle) -> tuple[bytes, bytes]:
    """``report.html`` and ``report.json`` of a run that has ended, well or not.

    Raises
    ------
    InputError
        If it has none, or none any more.
    """
    keys, files = layout.RunKeys(run.run_id), run.stack.files()
    until_s = time.monotonic() + FINISH_S
    with explained(f"reading the report of run {run.run_id}"):
        while True:
            try:
                return files.read(keys.report_page), files.read(keys.report)
            except FileNotFoundError as error:
                # A run that was stopped is finished after its execution has ended.
                if time.monotonic() < until_s and _execution(run)["status"] in {"ABORTED", "TIMED_OUT"}:
                    time.sleep(0.5)
                    continue
                raise InputError(
                    f"run {run.run_id} has no report: it has expired (RunDataDays), or was made by an older "
                    "stack"
                ) from error


def fetch(run: RunHandle, output: Path) -> list[Path]:
    """Download what a run that succeeded has for the user; the files' paths.

    Parameters
    ----------
    output
        A directory; it is made if need be, and files of the same names are replaced.
    """
    answer = summary(run)
    addresses = [answer[name] for name in ("predictions", "activations", "report_page") if answer.get(name)]
    try:
        output.mkdir(parents=True, exist_ok=True)
        return [_download(run.stack, address, output) for address in addresses]
    except OSError as error:
        raise InputError(f"{output} can't be written: {error.strerror}: give another --output") from error


def one_line(text: str) -> str:
    """``text`` without line breaks."""
    return " ".join(text.split())


def _execution(run: RunHandle) -> dict[str, Any]:
    with explained(f"watching run {run.run_id}"):
        return dict(run.stack.clients.stepfunctions.describe_execution(executionArn=run.execution_arn))


def _reason(cause: str) -> str:
    """One line of a cause, which is Lambda's error object where a function failed by itself."""
    try:
        told = json.loads(cause)
    except ValueError:
        return one_line(cause)
    return one_line(str(told.get("errorMessage", cause))) if isinstance(told, dict) else one_line(cause)


def _upload(path: Path, size: int, place: Bucket, name: str, fresh_s: float = math.inf) -> None:
    """Put a file there, unless one of its size was at most ``fresh_s`` ago."""
    key = place.prefix + name
    with explained(f"uploading {path}"):
        try:
            head = place.client.head_object(Bucket=place.bucket, Key=key)
            if head["ContentLength"] == size and time.time() - head["LastModified"].timestamp() < fresh_s:
                return
        except ClientError as error:
            if error.response["Error"].get("Code") not in {"404", "NoSuchKey", "403"}:
                raise
        place.client.upload_file(str(path), place.bucket, key)


def _download(stack: Stack, address: str, output: Path) -> Path:
    bucket, key = split_s3_uri(address)
    path = output / Path(key).name
    with explained(f"downloading {address}"):
        stack.clients.s3.download_file(bucket, key, str(path))
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
