"""What CloudWatch counts of runs, by stack and strategy: lines in CloudWatch's embedded metric format.

Each metric of each strategy is billed by the hours in which it is sent, so there are few, and a run, worker
or layer is never a dimension.
docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

METRICS = {
    "Runs": MetricUnit.Count,
    "FailedRuns": MetricUnit.Count,
    "RunSeconds": MetricUnit.Seconds,
    "RunCostUsd": MetricUnit.NoUnit,
    "Retries": MetricUnit.Count,
}
STRATEGY = "strategy"
UNPLANNED = "unplanned"
"""Strategy of a run that was refused, or failed before it had one."""


def run_metrics(summary: Mapping[str, Any], retries: int) -> dict[str, float]:
    """The values of one run.

    A failed run's cost is what its summary knows: not what killed workers used. One without a plan cost and
    took nothing.

    Parameters
    ----------
    summary
        As it lies in ``summary.json``.
    retries
        Starts of its workers beyond each one's first in an attempt.
    """
    values: dict[str, float] = {"Runs": 1, "FailedRuns": int(summary["status"] != "SUCCEEDED")}
    if STRATEGY in summary:
        values["RunSeconds"] = summary["seconds"]["total"]
        values["RunCostUsd"] = summary["cost_usd"]["total"]
        # That all workers were launched once more counts as one.
        values["Retries"] = retries + summary["attempts"] - 1
    return values


def count_run(summary: Mapping[str, Any], retries: int) -> None:
    """Write the line that CloudWatch makes metrics of.

    Namespace and the dimension ``service``, the stack, are those of Powertools' environment variables.
    """
    provider = AmazonCloudWatchEMFProvider()
    provider.add_dimension(STRATEGY, summary.get(STRATEGY, UNPLANNED))
    provider.add_metadata("run", summary["run_id"])
    for name, value in run_metrics(summary, retries).items():
        provider.add_metric(name, METRICS[name], value)
    provider.flush_metrics()
