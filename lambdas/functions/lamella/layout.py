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
MAX_ATTEMPTS = 2
"""How often the workers of a run are launched at most."""
SLOT_LEASES = "leases/slots.json"


@dataclass(frozen=True)
class RunKeys:
    """S3 keys of one attempt of one run.

    What is kept for the user lies directly below ``runs/ID/``; what workers need while they run, below
    ``work/``. There, what every attempt reads and none changes lies apart; whatever workers write has the
    attempt in its name, so that nothing of a worker that outlives its attempt is taken for the next one's.
    """

    run: str
    attempt: int = 1

    @property
    def attempts(self) -> list[RunKeys]:
        """Of every attempt up to this one."""
        return [RunKeys(self.run, attempt) for attempt in range(1, self.attempt + 1)]

    @property
    def next_attempt(self) -> RunKeys:
        return RunKeys(self.run, self.attempt + 1)

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
        """The mark that tells workers to leave: `lamella.abort_mark` says which."""
        return f"{self.root}abort"

    @property
    def errors(self) -> str:
        """Prefix of the errors that workers' Catch wrote."""
        return f"{self.root}errors/{self.attempt}/"

    @property
    def collected(self) -> str:
        """What Collect found."""
        return f"{self.work}collected.json"

    @property
    def work(self) -> str:
        return f"{self.shared}{self.attempt}/"

    @property
    def shared(self) -> str:
        """Prefix of what the workers of every attempt read."""
        return f"{self.root}work/"

    @property
    def items(self) -> str:
        """What the Distributed Map goes through, where the workers are too many for the inline one."""
        return f"{self.work}items.json"

    @property
    def ids(self) -> str:
        """What the input calls each sample, a line each, where it has a column of ids."""
        return f"{self.shared}ids"

    @property
    def halo(self) -> str:
        """Prefix of what workers send each other through S3."""
        return f"{self.work}halo/"

    @property
    def dealt(self) -> str:
        """Which of the input's samples is at each of the run's positions, where they are not the same."""
        return f"{self.shared}dealt"

    @property
    def queues(self) -> str:
        """How many queues were made for the run."""
        return f"{self.work}queues.json"

    def error(self, worker: int) -> str:
        return f"{self.errors}{worker}.json"

    def task(self, worker: int) -> str:
        return f"{self.work}tasks/{worker}"

    def input(self, worker: int) -> str:
        return f"{self.shared}inputs/{worker}"

    def part(self, worker: int) -> str:
        return f"{self.work}parts/{worker}"

    def checkpoint(self, worker: int) -> str:
        """The mark that a worker has started, and where it goes on from if it is started again."""
        return f"{self.work}checkpoints/{worker}"

    def ended(self, worker: int) -> str:
        """The mark that a worker has left, whatever came of it."""
        return f"{self.work}ended/{worker}"
