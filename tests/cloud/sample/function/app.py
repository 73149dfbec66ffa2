"""Handlers of the sample stack; each does what its event asks for."""

import json
import os
import subprocess
import sys
import threading
import time

COLD = {"invocations": 0}
TICKS = []


class Flaky(Exception):
    pass


def tick():
    while True:
        TICKS.append(time.monotonic())
        time.sleep(0.01)


def handler(event, context):
    COLD["invocations"] += 1
    item = event.get("item", event)
    if item.get("sleep_s"):
        time.sleep(item["sleep_s"])
    if item.get("flaky_until", 0) > event.get("attempt", 0):
        raise Flaky(f"attempt {event.get('attempt')}")
    if item.get("fail"):
        raise ValueError(item["fail"])
    if "exit" in item:
        os._exit(item["exit"])
    if item.get("allocate_mb"):
        block = bytearray(item["allocate_mb"] << 20)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(item.get("hold_s", 2))
    if item.get("child_allocate_mb"):
        size = item["child_allocate_mb"] << 20
        subprocess.run([sys.executable, "-c", f"import time; b = b'x' * {size}; time.sleep(5)"], check=False)
    if item.get("tick"):
        threading.Thread(target=tick, daemon=True).start()
    if item.get("orphan"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return {"pid": os.getpid(), "child": child.pid}
    if item.get("reply_bytes"):
        return "x" * item["reply_bytes"]
    if item.get("print"):
        sys.stdout.write(item["print"] + "\n")
    answer = {"pid": os.getpid(), "invocations": COLD["invocations"], "request": context.aws_request_id}
    if item.get("ticks"):
        answer["ticks"] = TICKS
    if item.get("import"):
        answer["module"] = __import__(item["import"]).__file__
    if item.get("environment"):
        answer |= {
            "environment": dict(os.environ),
            "path": sys.path,
            "python": sys.version,
        }
        answer["remaining_ms"] = context.get_remaining_time_in_millis()
        answer["arn"] = context.invoked_function_arn
        answer["context"] = context.client_context and context.client_context.custom
    if "value" in item:
        answer = item["value"] * 2
    return answer


def record(event, context):
    import boto3

    name = event.get("name", context.aws_request_id)
    key = f"ended/{name}.json"
    boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key=key, Body=json.dumps(event).encode())
