"""What letters a worker waits for, and how long each can be: whatever else comes is nobody's."""

from __future__ import annotations

from lamella.channels import Source
from lamella.codec import most_encoded_bytes
from lamella.letters import COMING, GOING
from lamella.plan import Task

# Of what a worker says when it comes, and of what worker 0 answers: a moment, and a line of text.
WORD_BYTES = 64 << 10


def expected_letters(task: Task, workers: int) -> dict[Source, int]:
    """The most bytes of each letter that a worker's task has it wait for, the gang's included.

    Parameters
    ----------
    workers
        Of the run.
    """
    letters: dict[Source, int] = {(GOING, 0): WORD_BYTES}
    letters |= {(COMING, worker): WORD_BYTES for worker in range(workers)}
    for step in task.steps:
        place = step.parts[0].layer, step.samples[0]
        samples = step.samples[1] - step.samples[0]
        for link in step.receive:
            letters[place, link.peer] = most_encoded_bytes(len(link.rows), samples)
    return letters
