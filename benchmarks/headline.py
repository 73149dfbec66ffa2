"""What the planner chooses for the paper's networks, and what it is predicted to take and cost.

``python -m benchmarks.headline [--json]``: for 1,024 to 65,536 neurons x 120 layers and 10,000 images, and
for a network of the same sizes in which no sample dies, the plan under ``aws-2026-11`` beside the paper's
fastest and cheapest. The networks are not made: their work is by formula (`lamella.prediction.analytic`), the
seconds are predictions. The paper's seconds are the mean worker's batch time, without launch and load:
``predicted_infer_s`` is like that. ``predicted_s`` is of the whole run, from Plan to Finish, all functions
starting cold.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Annotated, Any

import typer
from rich.table import Table

from lamella.cost import load_book
from lamella.plan import Plan
from lamella.planner import CHANNELS, MICRO_BATCHES
from lamella.prediction import Activity, Workload, load_profile, predict
from lamella.prediction.analytic import Halo, Shape, butterfly_halo, rows_workload
from lamella.prediction.candidates import WORKER_TIMEOUT_S, described
from lamella.prediction.choice import Offer, chosen
from lamella.prediction.closed_form import Prediction, sensitivity
from workflows.cli.console import Output
from workflows.paper import MEASUREMENTS

NEURONS, LAYERS, SAMPLES = (1024, 4096, 16384, 65536), 120, 10_000
MEMORIES_MB, WORKERS, MOST_WORKERS = (1024, 1769, 3008), (2, 4, 8, 16, 32, 64), 200
ROWS_WORKERS = (2, 8, 32)
# Of the official network of 1,024 neurons and its first 10,000 images, as runs counted: the share that lives
# in the input of layers 1, 6 and 13, and of all behind (337 categories).
COUNTED = {0: 1.0, 1: 0.9154, 6: 0.0708, 13: 0.0337, LAYERS: 0.0337}
# Where most samples die, a message's activations are runs of equal ones.
CELL_BYTES_DYING, INPUT_DENSITY = 0.1, 0.2
SENSITIVE = 5
RATIOS = ("faster", "faster, infer", "cheaper")


@dataclass(frozen=True)
class Network:
    """One of those that are compared."""

    name: str
    neurons: int
    activity: Activity

    @property
    def shape(self) -> Shape:
        return Shape(self.neurons, LAYERS, entry_bytes=2.0 if self.name == "official" else 6.0)

    def halo(self, workers: int) -> Halo:
        """What a cut exchanges: of an unstructured network nearly every row goes to everybody."""
        if self.name == "official":
            return butterfly_halo(self.neurons, workers)
        return Halo(float(workers - 1), workers - 1)


def networks() -> Iterator[Network]:
    """The paper's, and those in which no sample dies."""
    dying = Activity(_counted_name(), counted_curve(), CELL_BYTES_DYING, INPUT_DENSITY)
    alive = replace(Activity.all_alive(LAYERS), input_density=INPUT_DENSITY)
    for name, activity in (("official", dying), ("alive", alive)):
        for neurons in NEURONS:
            assumed = activity
            if name == "official" and neurons > NEURONS[0]:
                assumed = replace(activity, name=f"{activity.name}; assumed to be the same for {neurons:,}")
            yield Network(name, neurons, assumed)


def counted_curve() -> tuple[float, ...]:
    """The share of live samples, between the layers that were counted geometrically."""
    places = sorted(COUNTED)
    curve = []
    for layer in range(LAYERS + 1):
        above = next(place for place in places if place >= layer)
        below = max(place for place in places if place <= layer)
        share = (layer - below) / max(above - below, 1)
        curve.append(COUNTED[below] ** (1 - share) * COUNTED[above] ** share)
    return tuple(curve)


def workloads(network: Network) -> Iterator[Workload]:
    """Every plan whose workers fit their memory."""
    for plan in _plans():
        workload = rows_workload(network.shape, plan, network.activity, network.halo(plan.row_workers))
        for memory_mb in MEMORIES_MB:
            if workload.need_bytes <= memory_mb << 20:
                yield workload.planned(replace(plan, memory_mb=memory_mb))


def headline(network: Network) -> dict[str, Any]:
    """The plan chosen for a network, and the paper's best beside it."""
    profile, book = load_profile(), load_book()
    found: list[tuple[Workload, Prediction]] = []
    for workload in workloads(network):
        prediction = predict(workload, profile, book)
        if prediction.seconds.worker <= WORKER_TIMEOUT_S:
            found.append((workload, prediction))
    offers = [Offer(each.seconds.total, each.usd["total"]) for _, each in found]
    number = chosen(offers)
    if number is None:
        raise ValueError(f"{network}: no plan fits")
    workload, prediction = found[number]
    fastest = min(range(len(offers)), key=lambda i: offers[i].seconds)
    rows = sensitivity(workload, profile, book)
    return {
        "network": network.name,
        "neurons": network.neurons,
        "plan": asdict(workload.plan) | {"described": described(workload.plan)},
        "predicted_s": prediction.seconds.total,
        "predicted_infer_s": prediction.seconds.infer,
        "predicted_usd": prediction.usd["total"],
        "fastest_plan": described(found[fastest][0].plan),
        "fastest_s": offers[fastest].seconds,
        "fastest_usd": offers[fastest].usd,
        **_paper(network),
        "bound": prediction.bound,
        "sensitivity": [asdict(row) for row in rows[:SENSITIVE]],
        "assumed": list(prediction.assumed),
    }


def _plans() -> Iterator[Plan]:
    yield Plan("serial", "none", 1, 0, SAMPLES)
    for workers in (*WORKERS, 128, MOST_WORKERS):
        yield Plan("samples", "none", workers, 0, SAMPLES)
    for workers, channel, batches in product(ROWS_WORKERS, CHANNELS, MICRO_BATCHES):
        yield Plan("rows", channel, workers, 0, SAMPLES, batches)


def _paper(network: Network) -> dict[str, float | None]:
    """The authors' fastest and cheapest of that many neurons; theirs is the official network alone."""
    rows = [
        row
        for row in MEASUREMENTS
        if (row.neurons, row.layers, row.samples) == (network.neurons, LAYERS, SAMPLES)
    ]
    dollars = [row.total_usd for row in rows if row.total_usd is not None]
    if network.name != "official":
        return {"paper_fastest_s": None, "paper_cheapest_usd": None}
    return {
        "paper_fastest_s": min((row.batch_seconds for row in rows), default=None),
        "paper_cheapest_usd": min(dollars, default=None),
    }


def _counted_name() -> str:
    return "samples die as in the official network of 1,024 neurons"


def shown(rows: list[dict[str, Any]]) -> Table:
    """The measurement as a table."""
    table = Table(title="plans chosen, as predicted, beside the paper's best", title_justify="left")
    for name in ("network", "plan", "s", "infer, s", "$", "paper's s", "paper's $", *RATIOS, "bound"):
        table.add_column(name, justify="left" if name in {"network", "plan", "bound"} else "right")
    for row in rows:
        fastest, cheapest = row["paper_fastest_s"], row["paper_cheapest_usd"]
        table.add_row(
            f"{row['network']} {row['neurons']}",
            row["plan"]["described"],
            f"{row['predicted_s']:.1f}",
            f"{row['predicted_infer_s']:.1f}",
            f"{row['predicted_usd']:.5f}",
            f"{fastest:.1f}" if fastest else "",
            f"{cheapest:.4f}" if cheapest else "",
            f"{fastest / row['predicted_s']:.1f} x" if fastest else "",
            f"{fastest / row['predicted_infer_s']:.1f} x" if fastest else "",
            f"{cheapest / row['predicted_usd']:.1f} x" if cheapest else "",
            row["bound"],
        )
    return table


def main(json_: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False) -> None:
    """Plan the paper's networks, and those in which nothing dies."""
    output = Output(json_)
    rows = []
    for network in networks():
        output.say(f"planning {network.name}, {network.neurons:,} neurons")
        rows.append(headline(network))
    if json_:
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        output.out.print(shown(rows))


if __name__ == "__main__":
    typer.run(main)
