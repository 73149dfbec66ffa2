"""Cleanup: what has to be done before CloudFormation can delete a stack. It may be done again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict

from lamella.emptying import empty
from lamella.layout import RunKeys
from lamella.leaving import end_workers
from lamella.leftovers import run_queues
from lamella.runtime import Runtime

# How a stack's status begins that will be gone: an update, or its rollback, may delete this resource alone.
GOING = ("DELETE", "ROLLBACK")
# How long the bucket has to stay empty: a function that Step Functions no longer waits for may still write.
QUIET_S = 5.0
LOOK_S = 1.0
ENDERS = 16


class CleanupProperties(BaseModel):
    """Of the custom resource in template.yaml.

    Attributes
    ----------
    RunQueues
        What the names of queues that are made for a run begin with.
    KeepData
        Whether the bucket outlives the stack, with all that is in it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    StateMachineArn: str
    RunQueues: str
    KeepData: bool


def clean_up(stack: str, properties: CleanupProperties, runtime: Runtime) -> None:
    """Stop what runs, remove what runs made, and empty the bucket, if the stack itself is being deleted.

    Parameters
    ----------
    stack
        Its ARN.

    Raises
    ------
    CloudError
        If S3 refuses to remove an object.
    """
    status = runtime.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    if not status.startswith(GOING):
        runtime.logger.info("the stack stays: nothing is removed", status=status)
        return
    stopped = stop_runs(runtime, properties.StateMachineArn)
    queues = remove_queues(runtime, properties.RunQueues)
    # A stack that could not be created takes its bucket with it (RetainExceptOnCreate).
    removed = 0
    if not properties.KeepData or status.startswith("ROLLBACK"):
        removed = empty_until_quiet(
            lambda: empty(runtime.s3, runtime.config.bucket),
            QUIET_S if stopped else 0.0,
            time.monotonic,
            time.sleep,
        )
    runtime.logger.info("cleaned up", stopped=stopped, queues=queues, objects=removed)


def stop_runs(runtime: Runtime, machine: str) -> list[str]:
    """Stop every execution, and have its workers leave; the runs that were stopped."""
    client = runtime.stepfunctions
    pages = client.get_paginator("list_executions").paginate(stateMachineArn=machine, statusFilter="RUNNING")
    try:
        executions = [execution for page in pages for execution in page["executions"]]
    except client.exceptions.StateMachineDoesNotExist:
        return []
    for execution in executions:
        client.stop_execution(
            executionArn=execution["executionArn"], error="StackDeleted", cause="the stack is being deleted"
        )

    def end(run: str) -> None:
        _, silent = end_workers(runtime.bucket, RunKeys(run), "ABORTED")
        if silent:
            runtime.logger.warning("workers did not leave", stopped_run=run, workers=sorted(silent))

    runs = [execution["name"] for execution in executions]
    with ThreadPoolExecutor(ENDERS) as pool:
        list(pool.map(end, runs))
    return runs


def remove_queues(runtime: Runtime, prefix: str) -> int:
    """Delete the queues that were made for runs; how many there were.

    Parameters
    ----------
    prefix
        What their names begin with.
    """
    sqs = runtime.sqs
    pages = sqs.get_paginator("list_queues").paginate(
        QueueNamePrefix=prefix, PaginationConfig={"PageSize": 1000}
    )
    urls = run_queues((url for page in pages for url in page.get("QueueUrls", [])), prefix)
    for url in urls:
        sqs.delete_queue(QueueUrl=url)
    return len(urls)


def empty_until_quiet(
    remove: Callable[[], int], quiet_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> int:
    """Call ``remove`` until it has found nothing for ``quiet_s``; how many it removed in all."""
    total, last_s = remove(), clock()
    while clock() - last_s < quiet_s:
        sleep(LOOK_S)
        if found := remove():
            total, last_s = total + found, clock()
    return total
