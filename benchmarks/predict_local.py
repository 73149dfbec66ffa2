"""How far predictions are off on the embedded cloud: calibrated here, then judged by other runs."""

from __future__ import annotations

import os
from datetime import date

from lamella.cost import load_book
from lamella.prediction import Profile, load_profile, predict
from workflows.calibration import (
    Observation,
    Trial,
    calibrated,
    measure_codec,
    measure_kernel,
    run_trials,
    trials,
)
from workflows.cli.calibrate import CHANNELS
from workflows.cli.cloud import deployed_cloud
from workflows.cli.console import Output

SAMPLES, MANY, FEW_WORKERS, MANY_WORKERS = 128, 1024, 2, 8


def judged() -> list[Trial]:
    """Twelve over strategy, number of workers and channel; none has as many samples as a calibration's."""
    by_rows = [
        Trial(f"rows x {workers}, {channel}", "rows", channel, workers, SAMPLES)
        for channel in CHANNELS
        for workers in (FEW_WORKERS, MANY_WORKERS)
    ]
    return [
        Trial("serial, few", "serial", samples=SAMPLES),
        Trial("serial, many", "serial", samples=MANY),
        Trial("samples x 2", "samples", workers=FEW_WORKERS, samples=SAMPLES),
        Trial("samples x 8", "samples", workers=MANY_WORKERS, samples=MANY),
        Trial("pipeline x 2, sqs", "pipeline", "sqs", FEW_WORKERS, SAMPLES, micro_batches=2),
        Trial("pipeline x 8, sns", "pipeline", "sns", MANY_WORKERS, SAMPLES, micro_batches=4),
        *by_rows,
    ]


def errors_of(seen: dict[str, Observation], profile: Profile) -> list[dict[str, float | str]]:
    """Total seconds of runs whose functions were all there, and those predicted."""
    book = load_book()
    found: list[dict[str, float | str]] = []
    for name, run in seen.items():
        measured_s = float(run.summary["seconds"]["total"])
        predicted_s = predict(run.workload, profile, book, cold=False).seconds.total
        found.append(
            {
                "run": name,
                "measured_s": measured_s,
                "predicted_s": predicted_s,
                "error": predicted_s / measured_s - 1,
            }
        )
    return found


def measure(output: Output) -> list[dict[str, float | str]]:
    """Calibrate, run, compare: minutes."""
    kernel, codec = measure_kernel(), measure_codec()
    with deployed_cloud(output) as (_, stack):
        base = run_trials(stack, trials(CHANNELS, large=True), output, local=True)
        seen = run_trials(stack, judged(), output, local=True)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    profile = calibrated(
        load_profile(), "local", date.today(), base, kernel=kernel, codec=codec, processors=cpus
    )
    return errors_of(seen, profile)
