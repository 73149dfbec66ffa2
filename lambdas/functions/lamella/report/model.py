"""``report.json``: what a run was, did, took and cost."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from lamella.timeline import LayerTotals, StateTime

VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Planned(_Model):
    """How the run was cut."""

    strategy: str
    channel: str
    workers: int
    groups: int
    micro_batches: int
    memory_mb: int
    samples: int
    model: str
    input: str


class Prediction(_Model):
    """What was predicted of the run before it began.

    Attributes
    ----------
    seconds
        By the names of `Report.seconds`.
    cost_usd
        By service, and ``total``.
    """

    seconds: dict[str, float]
    cost_usd: dict[str, float]


class Alternative(_Model):
    """Another plan for the same run.

    Attributes
    ----------
    kind
        ``cheaper`` or ``faster``.
    """

    kind: str
    plan: str
    seconds: float
    cost_usd: float


class Published(_Model):
    """What others measured of the same network, samples and number of workers."""

    source: str
    seconds: float
    cost_usd: float | None
    bytes_sent: int


class Fared(_Model):
    """One worker: moments since Plan began, and where its time went."""

    worker: int
    incarnation: int
    started_s: float
    joined_s: float
    ended_s: float
    wait_s: float
    read_s: float
    compute_s: float
    send_s: float
    sent_bytes: int
    read_bytes: int
    reused_bytes: int
    peak_bytes: int
    error: str | None


class Straggler(_Model):
    """A worker that took much longer at something than the others.

    Attributes
    ----------
    what
        ``start``, ``read`` or ``compute``.
    seconds, median_s
        Its own, and the median worker's.
    """

    worker: int
    what: str
    seconds: float
    median_s: float


class Failure(_Model):
    """Why a run failed.

    Attributes
    ----------
    worker
        That failed first, if it was one.
    after_layer
        The last layer that it had done, if any.
    lines
        The last lines of its log, if it could leave them.
    """

    error: str
    cause: str
    worker: int | None = None
    after_layer: int | None = None
    lines: tuple[str, ...] = ()


class Report(_Model):
    """The whole file.

    Attributes
    ----------
    version
        Of this form; readers of 1 can read what is added to it.
    started_s
        Unix time at which Plan began; None where the run was refused before.
    planned
        None where the run was refused.
    seconds
        ``total``, and of a run that succeeded ``prepare`` and ``infer``.
    categories
        Samples with an output that is not zero.
    predictions, activations, timeline
        S3 addresses.
    cost_usd
        By service, and ``total``: metered. Of a failed run, what could be counted.
    prices
        The price book.
    usage
        Calls, billed units and bytes by operation.
    predicted, published, alternatives
        What there is to compare with.
    """

    version: int = VERSION
    run_id: str
    status: str
    started_s: float | None
    planned: Planned | None
    seconds: dict[str, float]
    categories: int | None
    predictions: str | None
    activations: str | None
    timeline: str | None
    failure: Failure | None
    states: tuple[StateTime, ...]
    workers: tuple[Fared, ...]
    stragglers: tuple[Straggler, ...]
    layers: tuple[LayerTotals, ...]
    cost_usd: dict[str, float]
    prices: str
    usage: dict[str, dict[str, float]]
    predicted: Prediction | None = None
    published: Published | None = None
    alternatives: tuple[Alternative, ...] = ()
