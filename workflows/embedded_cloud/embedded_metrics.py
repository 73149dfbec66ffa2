"""CloudWatch's embedded metric format: metrics that stand in lines of log.

docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MARK = '"_aws"'
MAX_VALUES = 100
MAX_DIMENSIONS = 30


@dataclass(frozen=True)
class Datum:
    """Values of one metric under one set of dimensions.

    Attributes
    ----------
    at
        Without a zone, UTC: as moto keeps it.
    """

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    values: tuple[float, ...]
    unit: str
    at: datetime


def data_of(line: str) -> Iterator[Datum]:
    """The metrics of a line; none if it holds no valid document.

    Lambda may put a timestamp and a request's id before the document. What breaks the specification, be it a
    document, a directive or a single metric, is left out, as CloudWatch does without a word to the sender.
    """
    if MARK not in line:
        return
    document = _document(line)
    told = document.get("_aws")
    if not isinstance(told, Mapping) or not _is_number(told.get("Timestamp")):
        return
    at = datetime.fromtimestamp(told["Timestamp"] / 1000, UTC).replace(tzinfo=None)
    for directive in _maps(told.get("CloudWatchMetrics")):
        for metric in _maps(directive.get("Metrics")):
            values = _values(document.get(str(metric.get("Name"))))
            if not values or not isinstance(directive.get("Namespace"), str):
                continue
            for names in directive.get("Dimensions") or []:
                dimensions = _dimensions(document, names)
                if dimensions is not None:
                    yield Datum(
                        directive["Namespace"],
                        metric["Name"],
                        dimensions,
                        values,
                        metric.get("Unit", "None"),
                        at,
                    )


def _document(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line[line.index("{") :])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _values(value: Any) -> tuple[float, ...]:
    listed = value if isinstance(value, list) else [value]
    sound = len(listed) <= MAX_VALUES and all(_is_number(item) for item in listed)
    return tuple(float(item) for item in listed) if sound else ()


def _dimensions(document: Mapping[str, Any], names: Any) -> tuple[tuple[str, str], ...] | None:
    if not isinstance(names, list) or len(names) > MAX_DIMENSIONS:
        return None
    found = [(str(name), document.get(name)) for name in names]
    if not all(isinstance(value, str) and value for _, value in found):
        return None
    return tuple((name, str(value)) for name, value in found)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
