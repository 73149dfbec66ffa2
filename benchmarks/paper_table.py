"""Calls, billed units, bytes and dollars of runs beside what the paper measured.

``python -m benchmarks.paper_table [--workers P]... [--channel C]... [--network N]... [--json]``: the official
network, and one in which no sample dies, cut into rows, on the embedded cloud, one micro-batch at a time.
Every run starts cold. Calls and bytes are AWS's; Lambda's seconds and dollars are this machine's.

``bytes_sent`` is the same on every channel: what workers hand to it for each other, with the envelope that it
needs, once, however often it is received. That is the payload of SNS publishes or SQS sends, and the size of
the objects that workers leave for each other in S3; those are counted in the bucket.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.samples import SAMPLES, benchmark_samples
from benchmarks.whole_runs import Outcome, Subject, benchmark_cloud
from lamella.cost import cost, load_book
from lamella.errors import LamellaError
from lamella.usage import Count, Usage
from model_prep.readers import open_source
from workflows.cli.console import Output
from workflows.paper import OBJECT, QUEUE, ObjectMeasurement, QueueMeasurement

WORKERS = (8, 20, 42, 62)
OFFICIAL_LAYERS = ALIVE_LAYERS = 120
ALIVE_NEURONS = 1024
_OF_THIS_MACHINE = {"seconds", "usd", "usd, lambda"}
# What AWS bills as PUTs, LISTs aside, and as GETs.
_PUTS = ("put_object", "copy_object", "create_multipart_upload", "upload_part", "complete_multipart_upload")
_GETS = ("get_object", "head_object")
_LISTS = ("list_objects_v2", "list_objects")


class Network(StrEnum):
    """What is run."""

    OFFICIAL = "official"
    ALIVE = "alive"


class Channel(StrEnum):
    """What workers talk through."""

    SNS = "sns"
    SQS = "sqs"
    S3 = "s3"


@dataclass(frozen=True)
class Figures:
    """What a run used; None where the paper does not say.

    Attributes
    ----------
    bytes_sent
        Between workers.
    publishes_billed
        SNS's.
    puts, gets, lists
        Of the whole run: inputs, weights and outputs too; ``gets`` with HEADs, and with those that found
        nothing yet.
    usd
        At the paper's prices: all that a run of ours uses; of the paper's Lambda, SNS, SQS and S3.
    sends_billed
        SQS's, of workers that send to queues directly.
    sent_objects
        PUTs of what workers send each other.
    """

    bytes_sent: int
    publishes_billed: int | None
    receives: int | None
    puts: int | None
    gets: int | None
    lists: int | None
    usd: float | None
    usd_by_service: Mapping[str, float | None] = field(default_factory=dict)
    sends_billed: int | None = None
    sent_objects: int | None = None
    seconds: float | None = None


def our_figures(outcome: Outcome) -> Figures:
    """Of a run that succeeded."""
    usage = Usage.from_json(outcome.answer["usage"])
    published = _sum(usage, "sns", ("publish", "publish_batch"))
    sent = _sum(usage, "sqs", ("send_message", "send_message_batch"))
    dollars = cost(usage, load_book("paper"))
    return Figures(
        bytes_sent=published.bytes + sent.bytes + outcome.sent_bytes,
        publishes_billed=int(published.billed),
        receives=usage.count("sqs.receive_message").calls,
        puts=_sum(usage, "s3", _PUTS).calls,
        gets=_sum(usage, "s3", _GETS).calls,
        lists=_sum(usage, "s3", _LISTS).calls,
        usd=dollars["total"],
        usd_by_service={service: usd for service, usd in dollars.items() if service != "total"},
        sends_billed=int(sent.billed),
        sent_objects=outcome.sent_objects,
        seconds=float(outcome.answer["seconds"]["infer"]),
    )


def paper_figures(row: QueueMeasurement | ObjectMeasurement) -> Figures:
    """Of one of the paper's configurations."""
    if isinstance(row, ObjectMeasurement):
        return Figures(
            bytes_sent=row.bytes_written,
            publishes_billed=None,
            receives=None,
            puts=row.s3_puts,
            gets=row.s3_gets,
            lists=row.s3_lists,
            usd=row.total_usd,
            usd_by_service={"lambda": row.lambda_usd, "s3": row.s3_usd},
            seconds=row.batch_seconds,
        )
    return Figures(
        bytes_sent=row.bytes_sent,
        publishes_billed=row.sns_publish_billed,
        receives=row.sqs_receive_calls,
        puts=None,
        gets=None,
        lists=None,
        usd=row.total_usd,
        usd_by_service={"lambda": row.lambda_usd, "sns": row.sns_usd, "sqs": row.sqs_usd},
        seconds=row.batch_seconds,
    )


def measured(network: Network, channel: Channel, neurons: int, workers: int) -> Figures | None:
    """What the paper has of a cell: it has neither another network nor queues without topics."""
    if network is not Network.OFFICIAL or channel is Channel.SQS:
        return None
    row = (QUEUE if channel is Channel.SNS else OBJECT).get((neurons, workers))
    return paper_figures(row) if row else None


def _sum(usage: Usage, service: str, operations: Sequence[str]) -> Count:
    return sum((usage.count(f"{service}.{operation}") for operation in operations), Count())


@dataclass(frozen=True)
class Rows:
    """Which cells of the table are wanted."""

    networks: Sequence[Network]
    neurons: int
    workers: Sequence[int]
    channels: Sequence[Channel]
    alive_samples: int


def measure(rows: Rows, output: Output) -> Iterator[dict[str, Any]]:
    """Run every cell on one cloud, check every bit, and set its figures beside the paper's."""
    with (
        tempfile.TemporaryDirectory(prefix="lamella-benchmark-") as folder,
        benchmark_cloud(output, max(rows.workers)) as cloud,
    ):
        cloud.keep_what_is_sent()
        for network in rows.networks:
            official = network is Network.OFFICIAL
            neurons = rows.neurons if official else ALIVE_NEURONS
            name = f"radixnet:{neurons}x{OFFICIAL_LAYERS}" if official else f"alive:{neurons}x{ALIVE_LAYERS}"
            samples = benchmark_samples(neurons, Path(folder), SAMPLES if official else rows.alive_samples)
            source = open_source(name)
            placed = cloud.place(source, samples, rows.workers[:1])
            for workers in rows.workers:
                # Each number of workers is served best by a model that was prepared for it.
                subject = placed if workers == rows.workers[0] else cloud.cut_for(placed, source, [workers])
                for channel in rows.channels:
                    output.say(f"{name}, {workers} workers, {channel.value}")
                    cloud.chill()
                    outcome = cloud.run(
                        subject,
                        strategy="rows",
                        channel=channel.value,
                        workers=workers,
                        micro_batches=1,
                        # The paper's workers leave none.
                        checkpoints=False,
                    )
                    yield _cell(
                        subject, outcome, channel, measured(network, channel, neurons, workers), workers
                    )


def _cell(
    subject: Subject, outcome: Outcome, channel: Channel, paper: Figures | None, workers: int
) -> dict[str, Any]:
    return {
        "network": subject.network,
        "input": subject.input,
        "workers": workers,
        "channel": channel.value,
        "exact": outcome.exact,
        "error": outcome.error,
        "ours": None if outcome.error else asdict(our_figures(outcome)),
        "paper": asdict(paper) if paper else None,
    }


def shown(result: Mapping[str, Any]) -> Table:
    """One measurement as a table."""
    verdict = result["error"] or ("exact" if result["exact"] else "NOT EXACT")
    table = Table(
        title=f"{result['network']}, {result['workers']} workers, {result['channel']}: {verdict}",
        caption=f"Input: {result['input']}. Paper: FSD-Inference, arXiv 2403.15195, measured on AWS. Dollars "
        "at the paper's prices; our seconds, and Lambda's dollars with them, are this machine's.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for name in ("ours", "paper", "ours / paper"):
        table.add_column(name, justify="right")
    ours, paper = _flat(result["ours"] or {}), _flat(result["paper"] or {})
    for name, value in ours.items():
        if value is None:
            continue
        theirs = paper.get(name)
        ratio = f"{value / theirs:.3f}" if theirs and name not in _OF_THIS_MACHINE else ""
        table.add_row(name, _number(value), "" if theirs is None else _number(theirs), ratio)
    return table


def _flat(figures: Mapping[str, Any]) -> dict[str, float | None]:
    flat: dict[str, float | None] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            flat |= {f"usd, {service}": usd for service, usd in value.items()}
        else:
            flat[name.replace("_", " ")] = value
    return flat


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def main(
    workers: Annotated[list[int] | None, typer.Option(min=2, help="How many; may be repeated.")] = None,
    channel: Annotated[
        list[Channel] | None, typer.Option(help="What they talk through; may be repeated; sns and s3.")
    ] = None,
    network: Annotated[list[Network] | None, typer.Option(help="May be repeated; both.")] = None,
    neurons: Annotated[int, typer.Option(help="Of the official network: 1024, 4096, 16384 or 65536.")] = 1024,
    alive_samples: Annotated[
        int, typer.Option(min=1, help="How many go through the network in which none dies.")
    ] = 32,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Set runs of the official network beside the paper's measurements; exit 1 unless every bit is right."""
    output = Output(json_)
    rows = Rows(
        network or list(Network),
        neurons,
        workers or WORKERS,
        channel or (Channel.SNS, Channel.S3),
        alive_samples,
    )
    results = []
    try:
        for result in measure(rows, output):
            results.append(result)
            if not json_:
                output.out.print(shown(result))
    except LamellaError as error:
        output.err.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    if json_:
        sys.stdout.write(json.dumps(results) + "\n")
    if not all(result["exact"] for result in results):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
