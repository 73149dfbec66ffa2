"""Which failures are due: rules, what they have done so far, and the random numbers that they draw."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from workflows.embedded_cloud.faults.rules import Rule


@dataclass
class _State:
    rule: Rule
    draws: random.Random
    met: int = 0
    hit: int = 0


@dataclass(frozen=True)
class Due:
    """A failure that is to happen now.

    Attributes
    ----------
    draw
        A random number from 0 to 1, for what the failure leaves open.
    """

    rule: Rule
    draw: float


@dataclass(frozen=True)
class Happened:
    """A failure that was made to happen."""

    service: str
    operation: str
    fault: str
    rule: int


@dataclass
class FaultPlan:
    """Safe to use from several threads."""

    _states: list[_State] = field(default_factory=list)
    _journal: list[Happened] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def active(self) -> bool:
        """Whether anything may fail."""
        return bool(self._states)

    def set(self, rules: Sequence[Rule], seed: int) -> None:
        """Replace all rules; forget what happened."""
        with self._lock:
            self._states = [_State(rule, random.Random(f"{seed}/{i}")) for i, rule in enumerate(rules)]  # noqa: S311
            self._journal = []

    def due(self, service: str, operation: str, content: bytes) -> list[Due]:
        """What happens to a request, or to a message's delivery."""
        found = []
        with self._lock:
            for number, state in enumerate(self._states):
                if not state.rule.fits(service, operation, content):
                    continue
                state.met += 1
                chosen, draw = state.draws.random(), state.draws.random()
                spent = state.rule.times is not None and state.hit >= state.rule.times
                if state.met <= state.rule.skip or spent or chosen >= state.rule.probability:
                    continue
                state.hit += 1
                self._journal.append(Happened(service, operation, state.rule.fault, number))
                found.append(Due(state.rule, draw))
        return found

    def journal(self) -> list[Happened]:
        """What happened since the rules were set, in order."""
        with self._lock:
            return list(self._journal)
