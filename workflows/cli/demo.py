"""``lamella demo``: the official network, cut for eight workers, against plain scipy and the paper."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table
from safetensors.numpy import load_file
from scipy.sparse import csr_array, save_npz

from lamella.cost import cost, load_book
from lamella.errors import InputError, ModelError
from lamella.events import RunRequest
from lamella.inputs import read_batch
from lamella.quantities import size, usd
from lamella.usage import Usage
from workflows.cli import tables
from workflows.cli.cloud import deployed_cloud, template_path
from workflows.cli.console import Output
from workflows.cli.prep import layer_bar
from workflows.cli.runs import FinishedRun, place_input, place_model, run_to_end
from workflows.paper import QUEUE, QueueMeasurement

NETWORK = "radixnet:1024x120"
NEURONS, LAYERS, WORKERS, SAMPLES = 1024, 120, 8, 10_000
_IMAGES = "sparse-images-1024.first10000.tsv.gz"
_TRUTH = "neuron1024-l120-categories.tsv"


@dataclass(frozen=True)
class Samples:
    """What the demo infers.

    Attributes
    ----------
    matrix : (samples, features) float32
    truth
        Official numbers, from 1, of the samples whose output is not all zero; None where there are none.
    """

    description: str
    path: Path
    matrix: csr_array
    truth: NDArray[np.int64] | None


@dataclass(frozen=True)
class Verdict:
    """How the run's output compares.

    Attributes
    ----------
    exact
        Whether every activation has the bits that plain scipy gives.
    different
        How many have not.
    official
        Whether exactly the official images were found; None where the images are not the official ones.
    live
        Samples that are not all zero, by how many layers are done, in the plain run.
    """

    exact: bool
    different: int
    official: bool | None
    categories: int
    scipy_seconds: float
    live: dict[int, int]


def demo(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Cut the official network into 8 parts, run them as Lambda functions here, and check every bit."""
    # scipy and the readers take half a second to import.
    from model_prep.readers import open_source
    from model_prep.writer import write_model

    output = Output(json)
    template_path()
    with tempfile.TemporaryDirectory(prefix="lamella-demo-") as name:
        work = Path(name)
        samples = _samples(work)
        source = open_source(NETWORK)
        output.say(f"preparing {NETWORK} for {WORKERS} workers; input: {samples.description}")
        with layer_bar(output, "preparing") as layers_done:
            report = write_model(source, work / "model", workers=[WORKERS], progress=layers_done)
        with deployed_cloud(output) as (_, stack):
            request = RunRequest(
                model=place_model(stack, str(work / "model")),
                input=place_input(stack, str(samples.path)),
                strategy="rows",
                channel="sns",
                workers=WORKERS,
                micro_batches=1,
                samples=SAMPLES,
                activations=True,
            )
            finished = run_to_end(stack, request, output, destination=work / "out", local=True)
        output.say("running the same in plain scipy")
        verdict = _verdict(work / "out" / "activations.safetensors", samples)
    data = _result(samples, finished, verdict, asdict(report))
    output.result(
        data,
        _comparison_table(data, QUEUE[NEURONS, WORKERS]),
        _live_table(verdict.live),
    )
    if not verdict.exact or verdict.official is False:
        raise typer.Exit(1)


def _samples(work: Path) -> Samples:
    """The official images, where $LAMELLA_GRAPH_CHALLENGE says they are; else generated ones."""
    from model_prep.blobs import digit_blobs
    from model_prep.reference import scipy_matrix

    folder = os.environ.get("LAMELLA_GRAPH_CHALLENGE")
    if not folder:
        matrix = csr_array(digit_blobs(SAMPLES))
        path = work / "blobs.npz"
        save_npz(path, matrix)
        return Samples(f"{SAMPLES:,} digit-like blobs (seed 0)", path, matrix, None)
    path = Path(folder) / _IMAGES
    try:
        batch = read_batch(path.read_bytes(), str(path), NEURONS, SAMPLES)
        truth = np.loadtxt(Path(folder) / _TRUTH, dtype=np.int64, ndmin=1)
    except (OSError, ValueError) as error:
        raise InputError(f"$LAMELLA_GRAPH_CHALLENGE={folder}: {error}") from error
    return Samples(
        f"the first {SAMPLES:,} official images", path, scipy_matrix(batch), truth[truth <= SAMPLES]
    )


def _verdict(activations: Path, samples: Samples) -> Verdict:
    from model_prep.readers import open_source
    from model_prep.reference import plain_scipy

    began = time.perf_counter()
    live: dict[int, int] = {}
    expected = plain_scipy(open_source(NETWORK), samples.matrix, live.__setitem__)
    seconds = time.perf_counter() - began
    got = load_file(activations)["activations"]
    if got.shape != expected.shape:
        raise ModelError(f"the run has activations of shape {got.shape}, plain scipy {expected.shape}")
    different = int(np.count_nonzero(got.view(np.uint32) != expected.view(np.uint32)))
    alive = np.flatnonzero(got.any(axis=1)) + 1
    official = None if samples.truth is None else bool(np.array_equal(alive, samples.truth))
    return Verdict(different == 0, different, official, len(alive), seconds, live)


def _result(
    samples: Samples,
    finished: FinishedRun,
    verdict: Verdict,
    prep_report: Mapping[str, Any],
) -> dict[str, Any]:
    usage = Usage.from_json(finished.answer["usage"])
    paper_usd = cost(usage, load_book("paper"))
    run = {name: value for name, value in finished.answer.items() if name != "outputs"}
    cut = next(cut for cut in prep_report["cuts"] if cut["workers"] == WORKERS)
    return {
        "network": NETWORK,
        "input": samples.description,
        "halo_rows": cut["halo_rows"],
        **asdict(verdict),
        "live": {str(layer): count for layer, count in verdict.live.items()},
        "run": run,
        "cost_usd_paper_prices": paper_usd,
        "paper": asdict(QUEUE[NEURONS, WORKERS]),
    }


def _comparison_table(data: Mapping[str, Any], paper: QueueMeasurement) -> Table:
    """The run beside the paper's measurement of the same network on as many workers."""
    run, prices = data["run"], data["cost_usd_paper_prices"]
    usage = Usage.from_json(run["usage"])
    published = usage.count("sns.publish_batch") + usage.count("sns.publish")
    received = usage.count("sqs.receive_message")
    exact = "yes, every bit" if data["exact"] else f"NO: {data['different']:,} activations differ"
    if data["official"] is not None:
        exact += "; the official images" if data["official"] else "; NOT the official images"
    table = Table(
        title=f"{NETWORK}, {SAMPLES:,} samples, rows over sns, {WORKERS} workers", title_justify="left"
    )
    table.add_column("")
    table.add_column("this run", justify="right")
    table.add_column("paper, queue", justify="right")
    rows = [
        ("samples with an output that is not zero", f"{data['categories']:,}", ""),
        ("exact against plain scipy", exact, ""),
        ("seconds, inference", f"{run['seconds']['infer']:.2f}", f"{paper.batch_seconds:.2f}"),
        ("seconds, whole run", f"{run['seconds']['total']:.2f}", ""),
        ("seconds, plain scipy on one core here", f"{data['scipy_seconds']:.2f}", ""),
        ("rows sent between workers, all layers", f"{data['halo_rows']:,}", ""),
        ("SNS publishes, billed", f"{published.billed:,.0f}", f"{paper.sns_publish_billed:,}"),
        ("SQS receive calls", f"{received.calls:,.0f}", f"{paper.sqs_receive_calls:,}"),
        ("bytes sent", size(published.bytes), size(paper.bytes_sent)),
        ("Lambda, paper's prices", usd(prices["lambda"]), usd(paper.lambda_usd)),
        ("SNS, paper's prices", usd(prices["sns"]), usd(paper.sns_usd)),
        ("SQS, paper's prices", usd(prices["sqs"]), usd(paper.sqs_usd)),
        ("Lambda + SNS + SQS, paper's prices", usd(_three(prices)), usd(paper.total_usd)),
        ("everything, prices of 2026-11", usd(run["cost_usd"]["total"]), ""),
    ]
    for row in rows:
        table.add_row(*row)
    table.caption = (
        "Paper: FSD-Inference, ICDE 2024, arXiv 2403.15195, measured on AWS; this run: on this machine, "
        "so its seconds and Lambda dollars are not AWS's, its calls and bytes are."
    )
    table.caption_justify = "left"
    return table


def _three(prices: Mapping[str, float]) -> float:
    """What the paper adds up."""
    return prices["lambda"] + prices["sns"] + prices["sqs"]


def _live_table(live: Mapping[int, int]) -> Table:
    """How many samples are still live after the layers."""
    layers = sorted(live)
    marks = [layer for layer in layers if layer in {1, 2, 4, 6, 13, 19, 40, 80, layers[-1]}]
    table = Table(
        title="samples that are not all zero after each layer (log scale)",
        title_justify="left",
        box=None,
        show_header=False,
    )
    table.add_column(overflow="fold")
    table.add_row(tables.sparkline([math.log1p(live[layer]) for layer in layers]))
    table.add_row("   ".join(f"{layer}: {live[layer]:,}" for layer in marks))
    return table
