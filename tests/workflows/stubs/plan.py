"""Plans three workers of the size that LAMELLA_WORKERS lists first.

Where a script's answer has a "gang" of so many, they are for the Distributed Map; where it has "looks", the
run is told to wait so often first.
"""

from __future__ import annotations

import json
import os
from typing import Any

from stub import BUCKET, act, s3

SMALLEST = os.environ["LAMELLA_WORKERS"].split(",")[0].partition("=")[2]


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    each = {"run": event["run"], "attempt": 1, "function": SMALLEST}
    answer = act("plan", event, {**each, "workers": [0, 1, 2], "items": None})
    looks = answer.pop("looks", 0)
    if s3.list_objects_v2(Bucket=BUCKET, Prefix=f"calls/{event['run']}/plan ")["KeyCount"] <= looks:
        return {"run": event["run"], "wait_s": 1}
    if workers := answer.pop("gang", 0):
        items = f"runs/{event['run']}/work/1/items.json"
        body = json.dumps([{**each, "worker": worker} for worker in range(workers)])
        s3.put_object(Bucket=BUCKET, Key=items, Body=body.encode())
        return {**answer, "workers": [], "items": items}
    return answer
