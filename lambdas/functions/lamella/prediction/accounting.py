"""What a run is expected to use of each service: calls, billed units and bytes, as metering counts them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lamella.channels.estimates import MISSES
from lamella.channels.object_format import HEAD_BYTES
from lamella.channels.packing import BATCH_ENTRIES
from lamella.channels.wire import SNS_MESSAGE_BYTES, SQS_MESSAGE_BYTES, sns_size_bytes, sqs_size_bytes
from lamella.messages import HEADER_BYTES
from lamella.prediction.times import Calls
from lamella.prediction.workload import Ints, Workload
from lamella.streaming import READ_BYTES
from lamella.usage import BILLED_CHUNK_BYTES, Count, Usage, lambda_usage, merge, step_functions_usage

PLAN_MEMORY_MB, COLLECT_MEMORY_MB, FINISH_MEMORY_MB = 3008, 1769, 1024  # template.yaml
# What the states ask of S3 for a run, and for each of its workers, beside weights and letters, as runs on the
# embedded cloud counted: Plan's task and share, a worker's mark and part; the model's files, manifest, tiles,
# task, share, and each part once more by Collect.
_PUTS, _WORKER_PUTS = 4, 4
_GETS, _WORKER_GETS = 16, 8


def states_usage(workload: Workload) -> Usage:
    """Requests to S3 of everything but letters, and the state machine's transitions."""
    workers = workload.workers
    read = workload.of_workers(workload.steps.read_bytes)
    ranges = int(np.maximum(np.ceil(read / READ_BYTES), 1).sum())
    puts, gets = _PUTS + _WORKER_PUTS * workers, _GETS + _WORKER_GETS * workers + ranges
    return merge(
        [
            Usage({"s3.put_object": Count(puts, puts), "s3.get_object": Count(gets, gets, int(read.sum()))}),
            step_functions_usage(workers),
        ]
    )


def letters_usage(workload: Workload, calls: Calls) -> Usage:
    """What the channel is used for, as `lamella.channels.estimates` has it, as if batches could be filled."""
    channel = workload.plan.channel
    if not len(workload.links.bytes) or channel not in {"sns", "sqs", "s3"}:
        return Usage()
    sizes = workload.links.bytes + HEADER_BYTES
    if channel == "s3":
        return _objects(workload, sizes, calls)
    most = SNS_MESSAGE_BYTES if channel == "sns" else SQS_MESSAGE_BYTES
    large = sizes > most
    carried = np.where(large, HEADER_BYTES, sizes) + (
        sns_size_bytes(0, "9999") if channel == "sns" else sqs_size_bytes(0)
    )
    steps = len(workload.steps.worker)
    out = np.bincount(workload.links.sender, carried, steps)
    into = np.bincount(workload.links.receiver, carried, steps)
    by_object = np.bincount(workload.links.sender, large, steps)[out > 0] > 0
    sent, received = calls.sending[out > 0], calls.receiving[into > 0]
    if channel == "sns":
        sent = np.maximum(sent - by_object, 1)
        name, billed = "sns.publish_batch", np.maximum(sent, np.ceil(out[out > 0] / BILLED_CHUNK_BYTES)).sum()
    else:
        name, billed = "sqs.send_message_batch", np.ceil(carried / BILLED_CHUNK_BYTES).sum()
    billed_in = (received * np.ceil(into[into > 0] / received / BILLED_CHUNK_BYTES)).sum()
    deletions = int(np.ceil(workload.of_workers(workload.letters_in) / BATCH_ENTRIES).sum())
    total = int(carried.sum())
    usage = Usage(
        {
            name: Count(int(sent.sum()), int(billed), total),
            "sqs.receive_message": Count(int(received.sum()), int(billed_in), total),
            "sqs.delete_message_batch": Count(deletions, deletions),
        }
    )
    if channel == "sqs":
        # Queues of the run's own.
        each = Count(workload.workers, workload.workers)
        usage += Usage({"sqs.create_queue": each, "sqs.delete_queue": each})
    return merge([usage, _by_object(workload, sizes, large)]) if large.any() else usage


def _objects(workload: Workload, sizes: Ints, calls: Calls) -> Usage:
    """Letters that all go by objects, one for each step that sends, which receivers also ask for in vain."""
    everything = np.ones(len(sizes), np.bool_)
    asked = MISSES * int((calls.receiving > 0).sum())
    return merge([_by_object(workload, sizes, everything), Usage({"s3.get_object": Count(asked, asked)})])


def _by_object(workload: Workload, sizes: Ints, chosen: NDArray[np.bool_]) -> Usage:
    puts = len(np.unique(workload.links.sender[chosen]))
    written = np.bincount(workload.links.sender[chosen], sizes[chosen], len(workload.steps.worker))
    # Its head is read first, by every receiver, and what lies behind that by those whose letter does.
    behind = written[workload.links.sender[chosen]] > HEAD_BYTES
    gets = int(chosen.sum()) + round(
        float((1 - HEAD_BYTES / written[workload.links.sender[chosen]])[behind].sum())
    )
    total = int(sizes[chosen].sum())
    return Usage({"s3.put_object": Count(puts, puts, total), "s3.get_object": Count(gets, gets, total)})


def functions_usage(
    workload: Workload, worker_s: float, states_s: tuple[float, float, float], init_s: float
) -> Usage:
    """Of Lambda.

    Parameters
    ----------
    worker_s
        Of the mean worker's handler.
    states_s
        Of Plan, Collect and Finish.
    init_s
        Of each new environment; 0 where all were there.
    """
    memory_mb = workload.plan.memory_mb
    one = lambda_usage(worker_s, memory_mb, init_s).count("lambda.invoke")
    workers = Usage({"lambda.invoke": Count(workload.workers, one.billed * workload.workers)})
    sizes = (PLAN_MEMORY_MB, COLLECT_MEMORY_MB, FINISH_MEMORY_MB)
    states = [lambda_usage(each, size, init_s) for each, size in zip(states_s, sizes, strict=True)]
    return merge([workers, *states])
