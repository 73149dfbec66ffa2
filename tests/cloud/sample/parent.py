"""Starts a cloud with a frozen environment, says its process ids, and waits to be killed."""

import io
import json
import sys
import time
import zipfile
from pathlib import Path

import psutil

from workflows.embedded_cloud import EmbeddedCloud

cloud = EmbeddedCloud.start(Path(sys.argv[1]))
data = io.BytesIO()
with zipfile.ZipFile(data, "w") as opened:
    opened.writestr("app.py", (Path(__file__).parent / "function" / "app.py").read_text())
role = cloud.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
client = cloud.client("lambda")
client.create_function(
    FunctionName="f",
    Role=role,
    Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
    Handler="app.handler",
    Code={"ZipFile": data.getvalue()},
)
client.invoke(FunctionName="f", Payload=json.dumps({"orphan": True}))
family = [child.pid for child in psutil.Process(cloud.pid).children(recursive=True)]
sys.stdout.write(" ".join(map(str, [cloud.pid, *family])) + "\n")
sys.stdout.flush()
time.sleep(600)
