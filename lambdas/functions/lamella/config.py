"""What a deployed function is told by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lamella.errors import RunError
from lamella.launch import MAX_WORKERS
from lamella.slots import slot_name, slots_of


def region(environment: Mapping[str, str] = os.environ) -> str:
    """Where this function runs, as Lambda says; us-east-1 outside of it."""
    return environment.get("AWS_REGION", "us-east-1")


class Config(BaseModel):
    """The environment variables ``LAMELLA_*`` that template.yaml sets; each function has those it needs.

    Attributes
    ----------
    bucket
        Where runs keep their data.
    topic_arn, slots, slot_queues
        The topic that workers publish to, how many slots are deployed (the variable lists their groups,
        ``0,1,2``), and what a slot's queue URL is but for the slot's name at its end.
    run_queues
        What the URL of a queue made for a run is but for what tells it from others.
    workers
        ARN of the worker function of each memory size, MiB: ``1024=arn:...,1769=arn:...``.
    worker_timeout_s
        Timeout of the worker functions.
    max_workers
        How many workers a run may have.
    start_deadline_s
        How long a gang waits for the last of its workers to start.
    keep_free
        How many of the account's concurrent executions runs leave to others, and to the states beside the
        workers.
    lease_wait_s
        How long a run waits for its turn while others hold what it needs; 0 not at all.
    max_run_usd
        What a run may be predicted to cost; 0: no bound.
    data_buckets
        Further buckets that models and inputs may lie in, only to be read: the variable lists them.
    metrics
        Whether Finish has CloudWatch count runs.
    state_machine_arn
        What starts a run.
    auto_model, auto_options
        The model that runs take which nobody starts, and the other fields of their request, a JSON object.
    schedule_runs
        How many runs may be under way for the schedule to start another.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: str
    topic_arn: str = ""
    slots: int = Field(default=0, ge=0)
    slot_queues: str = ""
    run_queues: str = ""
    workers: str = ""
    worker_timeout_s: int = Field(default=900, ge=1)
    max_workers: int = Field(default=MAX_WORKERS, ge=1, le=MAX_WORKERS)
    start_deadline_s: int = Field(default=120, ge=1)
    keep_free: int = Field(default=2, ge=0)
    lease_wait_s: int = Field(default=600, ge=0)
    max_run_usd: float = Field(default=1.0, ge=0)
    data_buckets: tuple[str, ...] = ()
    metrics: bool = False
    state_machine_arn: str = ""
    auto_model: str = ""
    auto_options: str = "{}"
    schedule_runs: int = Field(default=4, ge=1)

    @field_validator("slots", mode="before")
    @classmethod
    def _count_slots(cls, value: object) -> object:
        """A template can't count its slots, only list their groups."""
        return slots_of(value) if isinstance(value, str) else value

    @field_validator("data_buckets", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [name.strip() for name in value.split(",") if name.strip()]

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Config:
        """From the process's environment.

        Raises
        ------
        RunError
            If a variable is missing or malformed.
        """
        prefix = "LAMELLA_"
        given = {
            name.removeprefix(prefix).lower(): value
            for name, value in environment.items()
            if name.startswith(prefix)
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = prefix + "_".join(str(part) for part in first["loc"]).upper()
            raise RunError(
                f"{name} of this function is not set right: {first['msg']}: deploy the stack again"
            ) from error

    def worker_functions(self) -> dict[int, str]:
        """ARN of the worker function by its memory, MiB, ascending."""
        pairs = (item.partition("=") for item in self.workers.split(",") if item)
        return dict(sorted((int(memory), arn) for memory, _, arn in pairs))

    def slot_queue(self, slot: int) -> str:
        """URL of a slot's queue."""
        return f"{self.slot_queues}{slot_name(slot)}"
