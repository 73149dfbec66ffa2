"""The faults of requests: a WSGI application before all others."""

from __future__ import annotations

import io
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Protocol

from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.faults.batches import refuse_entries
from workflows.embedded_cloud.faults.deliveries import damaged
from workflows.embedded_cloud.faults.plan import Due, FaultPlan
from workflows.embedded_cloud.faults.refusals import refuse
from workflows.embedded_cloud.faults.requests import ApiRequest, read_request
from workflows.embedded_cloud.faults.rules import FAULTS, parse_rules
from workflows.embedded_cloud.json_answers import answer_json
from workflows.embedded_cloud.lambda_api import StartResponse
from workflows.embedded_cloud.launcher import FAULTS_PATH

Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class Environments(Protocol):
    """Where the functions that ask are found."""

    def signal(self, environment: str, number: signal.Signals) -> None:
        """Send a signal to the processes of an execution environment, if it is there."""


class FaultyApplication:
    """WSGI application that passes requests on to another, or lets them fail as the plan says."""

    def __init__(self, application: Application, plan: FaultPlan, environments: Environments) -> None:
        self._application, self._plan, self._environments = application, plan, environments

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not self._plan.active:
            return self._application(environ, start_response)
        request = read_request(environ)
        due = self._plan.due(request.service, request.operation, request.content) if request else []
        if request is None or not due:
            return self._application(environ, start_response)
        return self._failing(request, due, environ, start_response)

    def _failing(
        self, request: ApiRequest, due: list[Due], environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        by_fault = {each.rule.fault: each for each in due}
        for fault in ("kill", "freeze"):
            if fault in by_fault and by_fault[fault].rule.when == "before":
                self._strike(request, by_fault[fault])
        if "delay" in by_fault:
            time.sleep(by_fault["delay"].rule.seconds)
        for fault in ("throttle", "unavailable"):
            if fault in by_fault:
                return refuse(request.service, fault, start_response)
        application = self._application
        if "partial" in by_fault:
            application = refuse_entries(application, request, by_fault["partial"].draw)
        if "duplicate" in by_fault:
            _Answer(application, dict(environ, **{"wsgi.input": io.BytesIO(request.body)}))
            environ["wsgi.input"] = io.BytesIO(request.body)
        answer = _Answer(application, environ)
        for fault in ("kill", "freeze"):
            if fault in by_fault and by_fault[fault].rule.when == "after":
                self._strike(request, by_fault[fault])
        if "drop_response" in by_fault:
            return _hang_up(environ)
        for fault in ("flip", "truncate"):
            if fault in by_fault:
                answer.body = damaged(answer.body, fault, by_fault[fault].draw)
        return answer.send(start_response)

    def _strike(self, request: ApiRequest, due: Due) -> None:
        if not request.environment:
            return
        if due.rule.fault == "kill":
            self._environments.signal(request.environment, signal.SIGKILL)
            return
        self._environments.signal(request.environment, signal.SIGSTOP)
        # In time even where the request itself takes longer, or hangs.
        threading.Timer(
            due.rule.seconds, self._environments.signal, (request.environment, signal.SIGCONT)
        ).start()


class _Answer:
    """What an application answers, read whole."""

    def __init__(self, application: Application, environ: dict[str, Any]) -> None:
        self._status, self._headers = "500 Internal Server Error", [("Content-Type", "text/plain")]
        self.body = b"".join(application(environ, self._keep))
        self.length = len(self.body)

    def _keep(self, status: str, headers: list[tuple[str, str]], *_: Any) -> object:
        self._status, self._headers = status, list(headers)
        return None

    def send(self, start_response: StartResponse) -> Iterable[bytes]:
        """Pass it on; a body that became shorter keeps its length's header, as a broken connection would."""
        headers = [(name, value) for name, value in self._headers if name.lower() != "connection"]
        broken = len(self.body) < self.length
        start_response(self._status, [*headers, ("Connection", "close")] if broken else self._headers)
        return [self.body]


class FaultsApi:
    """WSGI application at :data:`~workflows.embedded_cloud.launcher.FAULTS_PATH`.

    ``POST {"seed": 7, "rules": [...]}`` replaces the rules, each an object with the fields of
    :class:`~workflows.embedded_cloud.faults.rules.Rule`; ``GET`` tells what happened since, in order.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan

    def takes(self, environ: dict[str, Any]) -> bool:
        """Whether the request is about faults."""
        return bool(environ.get("PATH_INFO") == FAULTS_PATH)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        status = "200 OK"
        answer: dict[str, Any] = {}
        if environ["REQUEST_METHOD"] == "POST":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            try:
                asked = json.loads(body)
                self._plan.set(parse_rules(asked["rules"]), int(asked.get("seed", 0)))
            except (EmbeddedCloudError, ValueError, TypeError, KeyError) as error:
                status = "400 Bad Request"
                known = "; ".join(f"{name}: {what}" for name, what in FAULTS.items())
                answer = {"message": f'{FAULTS_PATH} takes {{"seed": N, "rules": [...]}}: {error} ({known})'}
        answer = answer or {"happened": [asdict(each) for each in self._plan.journal()]}
        return answer_json(start_response, status, answer)


def _hang_up(environ: dict[str, Any]) -> Iterable[bytes]:
    """Close the connection without an answer."""
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("the response is dropped")
