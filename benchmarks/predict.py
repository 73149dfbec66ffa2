"""How far predictions are off: dollars, the paper's seconds, and the plan that is chosen by them.

(a) dollars of every configuration that the paper costed, from its counts, by the ``paper`` price book; (b)
the batch seconds of all its configurations, by constants that are fitted on half of them and judged on the
other half, both halves in turn; (c) seconds of twelve runs on the embedded cloud, by constants calibrated
here by others; (d) what the plan that the closed form chooses costs more than the best one
by brute force over the simulator.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks import planner_gap, predict_local
from benchmarks.paper_fit import Row, batch_seconds, errors_of_halves, fitted
from lamella.cost import cost, load_book
from workflows.cli.console import Output
from workflows.paper import MEASUREMENTS, usage_of


def paper_dollars(rows: Sequence[Row]) -> list[float]:
    """Relative errors of the total of each row that was costed."""
    book = load_book("paper")
    return [
        abs(cost(usage_of(row), book)["total"] / row.total_usd - 1)
        for row in rows
        if row.total_usd is not None
    ]


def residuals(rows: Sequence[Row], errors: Sequence[float]) -> list[dict[str, Any]]:
    """Each row's error when it was judged, and with constants fitted on all rows; the worst first."""
    everything = fitted(rows)
    found = [
        {
            "config": row.config,
            "measured_s": row.batch_seconds,
            "error": float(error),
            "error_fitted_on_all": batch_seconds(row, everything) / row.batch_seconds - 1,
        }
        for row, error in zip(rows, errors, strict=True)
    ]
    return sorted(found, key=lambda each: -abs(each["error"]))


def measure(output: Output) -> dict[str, Any]:
    """All of it."""
    errors = errors_of_halves(MEASUREMENTS)
    output.say("searching plans by brute force over the simulator")
    gaps = planner_gap.measure()
    local = predict_local.measure(output)
    return {
        "paper_usd_worst": max(paper_dollars(MEASUREMENTS)),
        "paper_seconds_median": float(np.median(np.abs(errors))),
        "paper_seconds_worst": float(np.abs(errors).max()),
        "local_seconds_median": float(np.median([abs(float(each["error"])) for each in local])),
        "planner_gap": max(float(str(each["gap"])) for each in gaps),
        "paper_seconds": residuals(MEASUREMENTS, errors.tolist()),
        "planner": gaps,
        "local": local,
    }


def shown(result: dict[str, Any]) -> list[Table]:
    """The measurement as tables."""
    summary = Table(title="predictions, relative errors", title_justify="left")
    for name in ("", "found", "asked"):
        summary.add_column(name, justify="right" if name else "left")
    for name, label, asked in (
        ("paper_usd_worst", "dollars of the paper's runs, worst", 0.01),
        ("paper_seconds_median", "batch seconds of the paper's runs, median", 0.20),
        ("paper_seconds_worst", "batch seconds of the paper's runs, worst", None),
        ("local_seconds_median", "seconds of runs here, median", 0.30),
        ("planner_gap", "dollars of the chosen plan over the best, worst", 0.05),
    ):
        summary.add_row(label, f"{result[name]:.4f}", "" if asked is None else f"{asked:.2f}")
    rows = Table(title="the paper's batch seconds, worst first", title_justify="left")
    for name in ("configuration", "measured, s", "error", "fitted on all"):
        rows.add_column(name, justify="left" if name == "configuration" else "right")
    for each in result["paper_seconds"]:
        rows.add_row(
            each["config"],
            f"{each['measured_s']:.1f}",
            f"{each['error']:+.3f}",
            f"{each['error_fitted_on_all']:+.3f}",
        )
    plans = Table(title="plans chosen, and the best by simulation", title_justify="left")
    for name in ("case", "chosen", "best", "gap"):
        plans.add_column(name)
    for each in result["planner"]:
        plans.add_row(str(each["case"]), str(each["chosen"]), str(each["best"]), f"{each['gap']:.4f}")
    here = Table(title="runs on the embedded cloud", title_justify="left")
    for name in ("run", "measured, s", "predicted, s", "error"):
        here.add_column(name, justify="left" if name == "run" else "right")
    for each in result["local"]:
        numbers = (f"{each['measured_s']:.2f}", f"{each['predicted_s']:.2f}", f"{each['error']:+.3f}")
        here.add_row(each["run"], *numbers)
    return [summary, rows, plans, here]


def main(json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Judge predictions; exit 1 if they are further off than they may be."""
    output = Output(json_)
    result = measure(output)
    if json_:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for table in shown(result):
            output.out.print(table)
    good = (
        result["paper_usd_worst"] <= 0.01
        and result["paper_seconds_median"] <= 0.20
        and result["local_seconds_median"] <= 0.30
        and result["planner_gap"] <= 0.05
    )
    if not good:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
