"""Whole runs that are disturbed at random: ``python -m benchmarks.chaos [--seeds N] [--seed K]... [--json]``.

Every run has to end in one of two ways, before its deadline: with the bits of plain scipy, or with one error
that has a name. Neither may leave anything behind. A seed says everything that is drawn
(`benchmarks.chaos_trials`) and can be replayed alone; what else differs from time to time is the machine's
scheduling.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from safetensors.numpy import load_file
from scipy.sparse import csr_array, save_npz

from benchmarks.chaos_trials import Trial, trial
from benchmarks.leaks import Watcher
from benchmarks.samples import Samples
from benchmarks.whole_runs import BenchmarkCloud, Subject, same_bits
from lamella import client, errors
from lamella.client import RunHandle
from lamella.errors import LamellaError
from lamella.events import RunRequest
from lamella.layout import RunKeys
from model_prep.blobs import digit_blobs
from model_prep.readers import open_source
from workflows.cli.cloud import deployed_cloud
from workflows.cli.console import Output

NETWORK, WORKERS, SAMPLES = "radixnet:256x24", (2, 4), 1000
PARAMETERS = {"WorkerTimeout": "60", "StartDeadline": "20"}
# From Plan's start: the workers' time, what is allowed for their start, and for Collect and Finish.
HUNG_S = 180.0
# For the workers of a run that ended to see it, and for Finish to clean up behind a run that was stopped.
LEAVE_S = 40.0
POLL_S = 0.1
# Errors of Lambda's, where a function that isn't a worker could not be run at all.
OF_LAMBDA = ("Lambda.", "Runtime.", "Sandbox.")


@dataclass(frozen=True)
class Result:
    """What came of a trial.

    Attributes
    ----------
    outcome
        ``exact``, ``wrong``, ``hung``, an error's name, or ``stopped``.
    typed
        Whether it is one of those that are allowed.
    killed
        How many functions were.
    attempts
        How often the gang was run.
    """

    seed: int
    kind: str
    request: Mapping[str, Any]
    disturbance: str
    outcome: str
    typed: bool
    seconds: float
    killed: int
    attempts: int
    cause: str
    leaks: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether it ended in no way that a run may end."""
        return not self.typed or bool(self.leaks)


@dataclass(frozen=True)
class Chaos:
    """A deployed stack whose runs are disturbed."""

    cloud: BenchmarkCloud
    subject: Subject

    def run(self, chosen: Trial) -> Result:
        """One trial, and what it left."""
        watcher = Watcher.begin(self.cloud.cloud, self.cloud.stack)
        handle = client.new_run(self.cloud.stack)
        self.cloud.cloud.fail(list(chosen.rules), chosen.seed)
        began = time.monotonic()
        request = RunRequest(
            model=self.subject.model_uri,
            input=self.subject.input_uri,
            samples=len(self.subject.expected),
            activations=True,
            **chosen.request,
        )
        client.start(handle, request)
        status = self._end(handle, chosen, began)
        seconds = time.monotonic() - began
        killed = sum(failure["fault"] == "kill" for failure in self.cloud.cloud.failures())
        self.cloud.cloud.fail([])
        outcome, cause = self._outcome(handle, status)
        allowed = outcome == "exact" or hasattr(errors, outcome) or outcome.startswith(OF_LAMBDA)
        typed = allowed or (outcome == "stopped" and chosen.stop_after_s is not None)
        if status == "RUNNING":
            client.stop(handle)
        return Result(
            seed=chosen.seed,
            kind=chosen.kind,
            request=chosen.request,
            disturbance=chosen.disturbance,
            outcome=outcome,
            typed=typed,
            seconds=round(seconds, 2),
            killed=killed,
            attempts=self._attempts(handle),
            cause=cause,
            leaks=tuple(watcher.leaks(LEAVE_S)),
        )

    def _end(self, handle: RunHandle, chosen: Trial, began: float) -> str:
        """Wait for the run's end, and do to it what is to be done from outside; RUNNING if it hangs."""
        stop_s, queue_s = chosen.stop_after_s, chosen.delete_queue_after_s
        while (passed_s := time.monotonic() - began) < HUNG_S:
            if stop_s is not None and passed_s >= stop_s:
                client.stop(handle)
                stop_s = None
            if queue_s is not None and passed_s >= queue_s and self._delete_a_queue(handle):
                queue_s = None
            status = self._execution(handle)["status"]
            if status != "RUNNING":
                return str(status)
            time.sleep(POLL_S)
        return "RUNNING"

    def _delete_a_queue(self, handle: RunHandle) -> bool:
        """One that was made for the run, if there is any by now."""
        sqs, keys = self.cloud.cloud.client("sqs"), RunKeys(handle.run_id)
        if keys.queues not in handle.stack.files().sizes(keys.root):
            return False
        made = [url for url in sqs.list_queues().get("QueueUrls", []) if url.endswith("-1-1")]
        for url in made:
            sqs.delete_queue(QueueUrl=url)
        return bool(made)

    def _outcome(self, handle: RunHandle, status: str) -> tuple[str, str]:
        execution = self._execution(handle)
        match status:
            case "SUCCEEDED":
                with tempfile.TemporaryDirectory(prefix="lamella-chaos-") as folder:
                    client.fetch(handle, Path(folder))
                    found = load_file(Path(folder) / "activations.safetensors")
                return "exact" if same_bits(found, self.subject.expected) else "wrong", ""
            case "RUNNING":
                return "hung", f"after {HUNG_S:.0f} s"
            case "ABORTED":
                return "stopped", ""
            case _:
                return str(execution.get("error", status)), client.one_line(str(execution.get("cause", "")))

    def _attempts(self, handle: RunHandle) -> int:
        with suppress(FileNotFoundError):
            plan = json.loads(handle.stack.files().read(RunKeys(handle.run_id).plan))
            return int(plan["attempt"])
        return 0

    def _execution(self, handle: RunHandle) -> dict[str, Any]:
        return dict(
            self.cloud.cloud.client("stepfunctions").describe_execution(executionArn=handle.execution_arn)
        )


def small_samples(folder: Path) -> Samples:
    """The middle of digit-like blobs: 16 x 16 pixels."""
    pixels = np.arange(32 * 32).reshape(32, 32)[8:24, 8:24].ravel()
    matrix = csr_array(digit_blobs(SAMPLES)[:, pixels])
    path = folder / "samples.npz"
    save_npz(path, matrix)
    return Samples(f"{SAMPLES:,} digit-like blobs (seed 0)", matrix, path)


def results(seeds: Sequence[int], output: Output) -> Iterator[Result]:
    """Of undisturbed runs of every strategy over every channel first, with seed -1; then of each seed."""
    with (
        tempfile.TemporaryDirectory(prefix="lamella-chaos-") as name,
        deployed_cloud(output, parameters=PARAMETERS) as (cloud, stack),
    ):
        there = BenchmarkCloud(cloud, stack, output)
        chaos = Chaos(there, there.place(open_source(NETWORK), small_samples(Path(name)), WORKERS))
        trials = [trial(seed) for seed in seeds]
        configurations = dict.fromkeys(chosen.configuration for chosen in trials)
        # The first of them start functions, which others find warm.
        for _ in range(2):
            for configuration in configurations:
                yield chaos.run(Trial(-1, "kill", dict(configuration), (), "none"))
        for chosen in trials:
            yield chaos.run(chosen)


def figures(found: Sequence[Result]) -> dict[str, Any]:
    """What is asked of them; shares and medians are None where there is nothing to tell them from."""
    clean: defaultdict[str, list[float]] = defaultdict(list)
    for result in found:
        if result.seed < 0:
            clean[_configuration(result)].append(result.seconds)
    disturbed = [result for result in found if result.seed >= 0]
    one_killed = [result for result in disturbed if result.kind == "kill" and result.killed == 1]
    resumed = [result for result in one_killed if result.outcome == "exact" and result.attempts == 1]
    lost = [result.seconds - statistics.median(clean[_configuration(result)]) for result in resumed]
    return {
        "runs": len(disturbed),
        "wrong": sum(result.outcome == "wrong" for result in disturbed),
        "hung": sum(result.outcome == "hung" for result in disturbed),
        "leaked": sum(bool(result.leaks) for result in disturbed),
        "resumed_share": round(len(resumed) / len(one_killed), 4) if one_killed else None,
        "median_lost_s": round(statistics.median(lost), 2) if lost else None,
        "seeds_failed": [result.seed for result in disturbed if result.failed],
        "one_killed": len(one_killed),
        "exact": sum(result.outcome == "exact" for result in disturbed),
        "errors": dict(Counter(result.outcome for result in disturbed if result.outcome != "exact")),
        "clean_s": round(statistics.median(s for each in clean.values() for s in each), 2) if clean else None,
    }


def _configuration(result: Result) -> str:
    """What runs that are compared have in common."""
    return json.dumps(result.request, sort_keys=True)


def good(summary: Mapping[str, Any]) -> bool:
    """Whether nothing was wrong, hung or left, and those with one worker killed went on."""
    share = summary["resumed_share"]
    return not summary["seeds_failed"] and (share is None or share >= 0.95)


def shown(found: Sequence[Result]) -> Table:
    """How runs ended, by what happened to them."""
    table = Table(title=f"disturbed runs of {NETWORK}", title_justify="left")
    for name in ("", "runs", "exact", "again", "errors", "wrong", "hung", "leaked"):
        table.add_column(name, justify="left" if not name else "right")
    for kind in dict.fromkeys(result.kind for result in found if result.seed >= 0):
        of_kind = [result for result in found if result.kind == kind and result.seed >= 0]
        exact = [result for result in of_kind if result.outcome == "exact"]
        wrong = sum(result.outcome == "wrong" for result in of_kind)
        hung = sum(result.outcome == "hung" for result in of_kind)
        table.add_row(
            kind,
            str(len(of_kind)),
            str(len(exact)),
            str(sum(result.attempts > 1 for result in exact)),
            str(len(of_kind) - len(exact) - wrong - hung),
            str(wrong),
            str(hung),
            str(sum(bool(result.leaks) for result in of_kind)),
        )
    return table


def main(
    seeds: Annotated[int, typer.Option(min=1, help="How many, from 0 on.")] = 40,
    seed: Annotated[list[int] | None, typer.Option(help="Only these; may be repeated.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Disturb runs; exit 1 if one was wrong, hung, or left something, or too few went on after a death."""
    output = Output(json_)
    found: list[Result] = []
    try:
        for result in results(seed or range(seeds), output):
            found.append(result)
            asked = ", ".join(f"{value}" for value in result.request.values())
            came = f"{result.outcome}, {result.seconds:.1f} s, {result.attempts} attempts"
            output.say(f"{result.seed}: {result.kind}: {asked}: {result.disturbance}: {came}")
            if result.cause:
                output.say(f"    {result.cause}")
            if result.failed:
                output.say(f"    FAILED: {'; '.join(result.leaks) or result.outcome}")
    except LamellaError as error:
        output.err.print(f"error: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from error
    summary = figures(found)
    if json_:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        output.out.print(shown(found))
        output.out.print_json(json.dumps(summary))
    if not good(summary):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
