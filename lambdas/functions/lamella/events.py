"""What passes through the state machine: the user's request, and each state's event and answer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lamella.errors import InputError, PlanError
from lamella.layout import INPUTS
from lamella.plan import StrategyName

STRATEGIES = ("auto", *get_args(StrategyName))
CHANNELS = ("auto", "sns", "sqs", "s3")
MOST_SHOWN = 100  # characters of what is wrong, in the message about it
MOST_NAME = 1024  # characters: of a key in S3, and of what else has a name
# What Step Functions takes as the name of an execution (API reference, StartExecution).
RUN_ID = r"""^[^\s<>{}\[\]?*"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80}$"""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, data: object) -> Self:
        """Check what a function was called with.

        Raises
        ------
        InputError
            If it is something else; names the first field that is wrong.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = ".".join(str(part) for part in first["loc"])[:MOST_SHOWN] or "all of it"
            shown = repr(first["input"])[:MOST_SHOWN]
            raise InputError(f"{cls.__name__}, {field}: {first['msg']} (it is {shown})") from error


def _checked_run(run: str) -> str:
    if run in {".", ".."}:
        raise ValueError("names no folder: give the execution another name")
    return run


RunName = Annotated[str, Field(pattern=RUN_ID), AfterValidator(_checked_run)]


class RunRequest(_Event):
    """What starts an execution: the address of a model, that of its samples, and what else is wanted."""

    # As in the schema: "8" is no number of workers.
    model_config = ConfigDict(strict=True)

    model: str = Field(
        pattern=r"^s3://[^/]+/.*$",
        max_length=MOST_NAME + 70,
        description="S3 address of a prepared model's folder: below models/ in the stack's bucket, or in one "
        "of its DataBuckets.",
    )
    input: str = Field(
        pattern=r"^s3://[^/]+/.+$",
        max_length=MOST_NAME + 70,
        description="S3 address of the samples: below inputs/ in the stack's bucket, or in one of its "
        "DataBuckets; .tsv, .tsv.gz, .npy, .npz, .safetensors, .csv or .parquet, samples x features.",
    )
    id_column: str | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_NAME,
        description="Name of a column of a .csv or .parquet input that is no feature but each sample's id, "
        "which the predictions then begin with.",
    )
    strategy: str = Field(
        default="auto",
        json_schema_extra={"enum": [*STRATEGIES]},
        description="How the work is cut: serial (one worker), samples (every worker has the whole model and "
        "a share of the samples), rows (every worker has rows of every layer), pipeline (every worker has a "
        "block of layers), hybrid (groups of workers have a share of the samples each, and share the rows); "
        "auto is what deadline_s and budget_usd ask for, by predicted seconds and dollars, or else the "
        "cheapest within twice the seconds of the fastest.",
    )
    channel: str = Field(
        default="auto",
        json_schema_extra={"enum": [*CHANNELS]},
        description="How workers that talk do: sns is a topic with a deployed queue for each, sqs a queue "
        "made for each, s3 an object for all that one sends at a time; auto is chosen as the strategy is.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="How many workers, all told; under rows, one of the numbers that the model was cut for, "
        "under hybrid a multiple of one, under pipeline at most the layers. Left open, chosen as the rest.",
    )
    micro_batches: int | None = Field(
        default=None,
        ge=1,
        description="Into how many parts each worker's samples are cut: where workers talk, one is computed "
        "while another's activations are on their way. At most the samples of a worker. Left open, it is "
        "chosen as the rest is.",
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="How many samples the input has, where its last ones may be all zero: a Graph Challenge "
        "file names only the others.",
    )
    memory_mb: int | None = Field(
        default=None,
        ge=128,
        description="Which of the deployed worker sizes to use, MiB; left open, chosen as the rest is.",
    )
    deadline_s: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that the run is to take at most, as predicted: of what is left open the "
        "cheapest that keeps it is chosen.",
    )
    budget_usd: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="USD that the run may cost, as predicted: of what is left open the fastest that keeps it "
        "is chosen, and a run that is predicted to cost more is refused.",
    )
    activations: bool = Field(
        default=False, description="Whether to write every output's activations beside the predictions."
    )
    checkpoints: bool = Field(
        default=True,
        description="Whether workers of runs of more than some seconds leave checkpoints in S3, so that one "
        "that dies is started again where it was. Without them it can't go on.",
    )


class PlanEvent(_Event):
    """Input of Plan."""

    execution: str
    run: RunName
    request: Any


class PlanAnswer(_Event):
    """What Plan, or Recover, hands to the states after it.

    Attributes
    ----------
    function
        ARN of the worker function of the planned size.
    workers
        Their numbers, which the inline Map goes through; none where there are too many for it.
    items
        S3 key of what the Distributed Map goes through in that case.
    """

    run: str
    attempt: int
    function: str
    workers: list[int]
    items: str | None = None


class WaitAnswer(_Event):
    """What Plan answers for a run that has to wait for its turn.

    Attributes
    ----------
    wait_s
        When to call Plan again, seconds.
    """

    run: str
    wait_s: int = Field(ge=1)


class WorkerEvent(_Event):
    """Input of a worker."""

    run: RunName
    attempt: int = Field(ge=1)
    worker: int = Field(ge=0)


class CollectEvent(_Event):
    """Input of Collect."""

    run: RunName
    attempt: int = Field(ge=1)


class LookEvent(_Event):
    """Input of Intake from the schedule: where to look for new inputs."""

    prefix: str = Field(pattern=rf"^{INPUTS}")


class UploadEvent(_Event):
    """Input of Intake from the rule on uploads: an object that was put into the bucket."""

    bucket: str = Field(min_length=1)
    key: str = Field(pattern=rf"^{INPUTS}")


class IntakeAnswer(_Event):
    """What Intake did.

    Attributes
    ----------
    started
        Names of runs.
    waiting
        How many inputs are left for the next firing.
    """

    started: list[str]
    waiting: int


class SweepEvent(_Event):
    """Input of Sweep: whether to remove what dead runs left, or only to say what there is."""

    remove: bool


class SweptRun(_Event):
    """What one run has left.

    Attributes
    ----------
    status
        Of its execution; UNKNOWN where there is none.
    safe_from_s
        Unix time from which on nobody can still use it.
    slots, units, in_line, queues, objects, object_bytes, uploads
        How many: leased slots and units of concurrency, places in line for those, and so on; uploads are
        those that were not finished.
    """

    run: str
    status: str
    safe_from_s: float
    slots: int
    units: int
    in_line: int
    queues: int
    objects: int
    object_bytes: int
    uploads: int


class SweepAnswer(_Event):
    """What Sweep found.

    Attributes
    ----------
    removed
        Whether what the dead runs had left was removed.
    dead, ending
        Runs that left something: those that are dead, and those whose workers may not have left yet, of
        which nothing is removed.
    going
        How many are under way.
    total
        Of the dead runs.
    more
        Whether there are more runs than one sweep looks at.
    """

    removed: bool
    dead: list[SweptRun]
    ending: list[SweptRun]
    going: int
    total: dict[str, int]
    more: bool


class StateError(_Event):
    """An error as a Catch passes it on."""

    Error: str = ""
    Cause: str = ""


class RecoverEvent(_Event):
    """Input of Recover: an attempt whose workers failed, and what the Map says of it."""

    execution: str
    run: RunName
    attempt: int = Field(ge=1)
    error: StateError


class FinishEvent(_Event):
    """Input of Finish: after a run, after its failure, or from the rule on stopped executions."""

    execution: str
    run: RunName
    status: Literal["SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"]
    error: StateError | None = None


class FailedAnswer(_Event):
    """What Finish answers for a failed run; the Fail state shows it."""

    error: str
    cause: str


def parse_request(data: object) -> RunRequest:
    """Check the user's input.

    Raises
    ------
    PlanError
        For an unknown strategy or channel, naming the nearest.
    InputError
        For anything else, naming the field.
    """
    example = '{"model": "s3://...", "input": "s3://..."}'
    if not isinstance(data, Mapping):
        raise InputError(f"the run's input is no JSON object: give {example}")
    try:
        request = RunRequest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])[:MOST_SHOWN] or "input"
        known = ", ".join(RunRequest.model_fields)
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"unknown field {field!r} in the run's input{_nearest(field, RunRequest.model_fields)}"
                f": use {known}"
            ) from error
        if first["type"] == "missing":
            raise InputError(f"the run's input has no {field!r}: give {example}") from error
        shown = repr(first["input"])[:MOST_SHOWN]
        raise InputError(f"{field} of the run's input: {first['msg']} (it is {shown})") from error
    check_name("strategy", request.strategy, STRATEGIES)
    check_name("channel", request.channel, CHANNELS)
    return request


def parse_plan_event(data: Mapping[str, Any]) -> PlanEvent | RecoverEvent:
    """The event of a new run, or that of one whose workers failed.

    Raises
    ------
    InputError
        If it is neither.
    """
    return RecoverEvent.parse(data) if "attempt" in data else PlanEvent.parse(data)


def parse_intake_event(data: Mapping[str, Any]) -> LookEvent | UploadEvent:
    """The schedule's event, or that of an upload.

    Raises
    ------
    InputError
        If it is neither.
    """
    return UploadEvent.parse(data) if "key" in data else LookEvent.parse(data)


def check_name(what: str, name: str, known: tuple[str, ...]) -> None:
    """Refuse a name that isn't known, with the nearest one.

    Raises
    ------
    PlanError
        If it isn't among ``known``.
    """
    if name not in known:
        raise PlanError(
            f"unknown {what} {name[:MOST_SHOWN]!r}{_nearest(name, known)}: use {', '.join(known)}"
        )


def _nearest(name: str, known: Any) -> str:
    # Comparing takes time by the square of the length.
    close = difflib.get_close_matches(name[:MOST_SHOWN], list(known), n=1, cutoff=0.4)
    return f" (did you mean {close[0]!r}?)" if close else ""
