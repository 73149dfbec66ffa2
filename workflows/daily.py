"""What a day of runs costs, by Lamella and by what a user would run instead: pure arithmetic.

All compute by the same kernel, at the profile's speed of a vCPU: what is compared is the way to pay for it.
Start-up times of others are assumptions, named here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lamella.cost import PriceBook, Server
from lamella.errors import InputError
from lamella.prediction.candidates import Candidate
from lamella.prediction.profile import Profile

DAY_S, MONTH_DAYS = 86_400.0, 30.4
EC2_START_S = (
    60.0  # assumed: an instance from an image that has all but the model; a minute is billed at least
)
BATCH_START_S = 180.0  # assumed, and billed: a container is pulled and started
SERVERLESS_SIZES_MB = (1024, 2048, 3072, 4096, 5120, 6144)  # SageMaker Developer Guide, Serverless Inference
SERVERLESS_REQUEST_S, SERVERLESS_PAYLOAD_BYTES = 60.0, 4 << 20  # the same: of one request
MOST_RUNS = 10**7  # a day; crossings beyond are not looked for


@dataclass(frozen=True)
class Job:
    """What one run has to do.

    Attributes
    ----------
    cpu_s
        Of one vCPU.
    read_s
        To load the model.
    need_bytes
        Memory of one process that does all of it.
    data_bytes
        Input and output.
    """

    cpu_s: float
    read_s: float
    need_bytes: int
    data_bytes: float


@dataclass(frozen=True)
class Way:
    """A way to run it.

    Attributes
    ----------
    run_usd
        For each run.
    day_usd
        For each day that a server is kept.
    runs_per_server
        That a kept server does in a day; none are kept where it is 0.
    reason
        Why it can't be had; empty if it can.
    """

    name: str
    seconds: float
    run_usd: float
    day_usd: float = 0.0
    runs_per_server: float = 0.0
    reason: str = ""

    def usd(self, runs: float) -> float:
        """Of a day with so many runs."""
        servers = math.ceil(runs / self.runs_per_server) if self.runs_per_server else 0
        return self.run_usd * runs + self.day_usd * max(servers, 1 if self.day_usd else 0)


def job_of(serial: Candidate, profile: Profile) -> Job:
    """From a plan with one worker."""
    workload = serial.workload
    steps, kernel = workload.steps, profile.kernel
    cpu_s = float(
        (steps.sparse / kernel.sparse_per_s.value + steps.dense / kernel.dense_per_s.value).sum()
        + (steps.layers * kernel.layer_s.value).sum()
    )
    return Job(
        cpu_s,
        float(steps.read_bytes.sum()) / profile.functions.bytes_per_s.value,
        workload.need_bytes,
        float(workload.input_bytes.sum() + workload.output_bytes.sum()),
    )


def ways(chosen: Candidate, job: Job, book: PriceBook, profile: Profile) -> list[Way]:
    """Lamella, and the others.

    Raises
    ------
    InputError
        If the book has no prices of the others.
    """
    if not {"ec2", "batch_transform"} <= set(book.servers) or None in (
        book.ebs_gb_month,
        book.serverless_gb_second,
        book.serverless_byte,
    ):
        raise InputError(f"price book {book.name} has no prices of servers: compare in another --region")
    ec2, batch = book.servers["ec2"], book.servers["batch_transform"]
    return [
        Way("Lamella", chosen.offer.seconds, chosen.offer.usd),
        _always_on(job, ec2, book),
        _per_job(job, ec2, book),
        _serverless(job, book, profile),
        _batch_transform(job, batch),
    ]


def crossing(ours: Way, other: Way) -> int | None:
    """The fewest runs a day at which the other costs less; None if it never does."""
    if other.reason:
        return None
    low, high = 0, 1
    while other.usd(high) >= ours.usd(high):
        low, high = high, high * 2
        if high > MOST_RUNS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if other.usd(middle) < ours.usd(middle) else (middle, high)
    return high


def cheapest(found: Sequence[Way], runs: float) -> Way:
    """Of a day with so many runs."""
    return min((way for way in found if not way.reason), key=lambda way: way.usd(runs))


def _fits(job: Job, server: Server) -> str:
    gib = job.need_bytes / (1 << 30)
    return (
        "" if gib <= server.memory_gib else f"needs {gib:.1f} GiB and {server.type} has {server.memory_gib:g}"
    )


def _always_on(job: Job, server: Server, book: PriceBook) -> Way:
    seconds = job.cpu_s / server.vcpus
    day_usd = server.hour.of(24) + _disk_usd(server, book, DAY_S)
    name = f"EC2 {server.type}, always on"
    return Way(name, seconds, 0.0, day_usd, DAY_S / max(seconds, 0.001), _fits(job, server))


def _per_job(job: Job, server: Server, book: PriceBook) -> Way:
    seconds = EC2_START_S + job.read_s + job.cpu_s / server.vcpus
    usd = server.hour.of(max(seconds, 60.0) / 3600) + _disk_usd(server, book, seconds)
    return Way(f"EC2 {server.type}, started per job", seconds, usd, reason=_fits(job, server))


def _serverless(job: Job, book: PriceBook, profile: Profile) -> Way:
    name = "SageMaker Serverless"
    fitting = [size for size in SERVERLESS_SIZES_MB if size << 20 >= job.need_bytes]
    if not fitting or book.serverless_gb_second is None or book.serverless_byte is None:
        return Way(
            name, 0.0, 0.0, reason=f"needs {job.need_bytes >> 20} MB and {SERVERLESS_SIZES_MB[-1]} are most"
        )
    compute_s = job.cpu_s / profile.vcpus(fitting[0])
    requests = max(
        1, math.ceil(job.data_bytes / SERVERLESS_PAYLOAD_BYTES), math.ceil(compute_s / SERVERLESS_REQUEST_S)
    )
    billed_s = compute_s + job.read_s  # once: it stays loaded for the requests after
    usd = book.serverless_gb_second.of(billed_s * fitting[0] / 1024) + book.serverless_byte.of(job.data_bytes)
    label = f"{name}, {fitting[0]:,} MB" + (f", {requests} requests" if requests > 1 else "")
    return Way(label, profile.functions.init.mean + billed_s, usd)


def _batch_transform(job: Job, server: Server) -> Way:
    seconds = BATCH_START_S + job.read_s + job.cpu_s / server.vcpus
    usd = server.hour.of(seconds / 3600)
    return Way(f"Batch Transform, {server.type}", seconds, usd, reason=_fits(job, server))


def _disk_usd(server: Server, book: PriceBook, seconds: float) -> float:
    if book.ebs_gb_month is None:
        return 0.0
    return book.ebs_gb_month.of(server.disk_gb * seconds / DAY_S / MONTH_DAYS)
