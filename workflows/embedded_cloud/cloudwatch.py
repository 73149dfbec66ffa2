"""Lambda's log lines on their way into moto's CloudWatch Logs, and the metrics in them into CloudWatch."""

from __future__ import annotations

import threading

from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends
from moto.logs.models import LogsBackend, logs_backends

from workflows.embedded_cloud.embedded_metrics import data_of
from workflows.embedded_cloud.log_streams import LogSink


def cloudwatch_sink(account_id: str = "123456789012", region: str = "us-east-1") -> LogSink:
    """Return a sink that makes log groups and streams as it meets them.

    A group that was deleted is not made again for what has logged to it: Lambda does that only in the name of
    a role with logs:CreateLogGroup, and a stack that deletes its groups would leave one behind.
    """
    known: set[tuple[str, str]] = set()
    lock = threading.Lock()

    def sink(group: str, stream: str, lines: list[tuple[int, str]]) -> None:
        backend: LogsBackend = logs_backends[account_id][region]
        with lock:
            if (group, stream) not in known:
                backend.ensure_log_group(group)
                known.add((group, stream))
            if group not in backend.groups:
                return
            if stream not in backend.groups[group].streams:
                backend.create_log_stream(group, stream)
            events = [{"timestamp": timestamp_ms, "message": message} for timestamp_ms, message in lines]
            backend.put_log_events(group, stream, events)
            metrics = cloudwatch_backends[account_id][region]
            for _, message in lines:
                put_metrics(metrics, message)

    return sink


def put_metrics(backend: CloudWatchBackend, line: str) -> None:
    """Record the metrics that a line of log holds."""
    for datum in data_of(line):
        backend.put_metric_data(
            datum.namespace,
            [
                {
                    "MetricName": datum.name,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in datum.dimensions],
                    "Values": list(datum.values),
                    "Unit": datum.unit,
                    "Timestamp": datum.at,
                }
            ],
        )
