"""Names of everything a run keeps in the bucket, in one place."""

from __future__ import annotations

from dataclasses import dataclass

MODELS = "models/"
# The user's alone: nothing of Lamella writes there, since whatever is put there may start a run.
INPUTS = "inputs/"
# Samples that the command line brings along for one run.
UPLOADS = "uploads/"
RUNS = "runs/"
# A mark for each input that was started by itself, so that it is not started again.
INTAKE = "intake/"
SLOT_LEASES = "leases/slots.json"


@dataclass(frozen=True)
class RunKeys:
    """S3 keys of one attempt of one run.

    What is kept for the user lies directly below ``runs/ID/``; what workers need while they run, below
    ``work/``.
    """

    run: str
    attempt: int = 1

    @property
    def root(self) -> str:
        return f"{RUNS}{self.run}/"

    @property
    def plan(self) -> str:
        """What was asked, and what was planned."""
        return f"{self.root}plan.json"

    @property
    def summary(self) -> str:
        """What the execution's output says, whole."""
        return f"{self.root}summary.json"

    @property
    def timeline(self) -> str:
        """When every worker did what: `lamella.timeline`."""
        return f"{self.root}timeline.json"

    @property
    def report(self) -> str:
        """What the run was, did, took and cost: `lamella.report`."""
        return f"{self.root}report.json"

    @property
    def report_page(self) -> str:
        """The same, to be looked at."""
        return f"{self.root}report.html"

    @property
    def predictions(self) -> str:
        return f"{self.root}predictions.csv"

    @property
    def activations(self) -> str:
        return f"{self.root}activations.safetensors"

    @property
    def abort(self) -> str:
        """The mark that tells every worker to leave."""
        return f"{self.root}abort"

    @property
    def errors(self) -> str:
        """Prefix of the errors that workers' Catch wrote."""
        return f"{self.root}errors/"

    @property
    def collected(self) -> str:
        """What Collect found."""
        return f"{self.work}collected.json"

    @property
    def work(self) -> str:
        return f"{self.root}work/{self.attempt}/"

    @property
    def items(self) -> str:
        """What the Distributed Map goes through, where the workers are too many for the inline one."""
        return f"{self.work}items.json"

    @property
    def ids(self) -> str:
        """What the input calls each sample, a line each, where it has a column of ids."""
        return f"{self.work}ids"

    @property
    def halo(self) -> str:
        """Prefix of what workers send each other through S3."""
        return f"{self.work}halo/"

    @property
    def dealt(self) -> str:
        """Which of the input's samples is at each of the run's positions, where they are not the same."""
        return f"{self.work}dealt"

    @property
    def queues(self) -> str:
        """How many queues were made for the run."""
        return f"{self.work}queues.json"

    def error(self, worker: int) -> str:
        return f"{self.errors}{worker}.json"

    def task(self, worker: int) -> str:
        return f"{self.work}tasks/{worker}"

    def input(self, worker: int) -> str:
        return f"{self.work}inputs/{worker}"

    def part(self, worker: int) -> str:
        return f"{self.work}parts/{worker}"

    def started(self, worker: int) -> str:
        """The mark that a worker has joined its gang."""
        return f"{self.work}started/{worker}"

    def ended(self, worker: int) -> str:
        """The mark that a worker has left, whatever came of it."""
        return f"{self.work}ended/{worker}"
