"""The embedded cloud that ``lamella local`` keeps open, as other commands find it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lamella.client import Clients, Stack
from lamella.errors import InputError, LamellaError

_RECORD = "local.json"


class OpenCloud(BaseModel):
    """What ``lamella local`` records of itself.

    Attributes
    ----------
    checkout
        Whose template was deployed: another checkout's cloud is not this one's.
    environment
        The AWS settings that reach it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    checkout: str
    stack: str
    environment: dict[str, str]


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the command keeps its state: ``$LAMELLA_STATE_DIR``, or the user's state directory."""
    given = environment.get("LAMELLA_STATE_DIR")
    if given:
        return Path(given).expanduser()
    base = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "lamella"


def record(cloud: OpenCloud) -> Path:
    """Write down that a cloud is open; the file, which is to be removed when it closes.

    Raises
    ------
    InputError
        If the state directory can't be written.
    """
    path = state_directory() / _RECORD
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(cloud.model_dump_json())
        draft.replace(path)
    except OSError as error:
        raise InputError(
            f"{path.parent} can't be written ({error.strerror}): set LAMELLA_STATE_DIR to a folder that can"
        ) from error
    return path


def find_open(checkout: Path) -> tuple[OpenCloud, Stack] | None:
    """The cloud that this checkout has open, if it is alive and answers."""
    try:
        cloud = OpenCloud.model_validate(json.loads((state_directory() / _RECORD).read_bytes()))
    except (OSError, ValueError, ValidationError):
        return None
    if cloud.checkout != str(checkout) or not _alive(cloud.pid):
        return None
    try:
        return cloud, Stack.find(cloud.stack, Clients.connect(cloud.environment))
    except (LamellaError, KeyError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
