"""Failures on demand: what AWS's services, networks and functions do now and then, made to happen here.

Rules say what happens to which requests, or to which messages on their way into a queue; what is drawn at
random is drawn from a seed. Nothing happens until rules are set.
"""

from workflows.embedded_cloud.faults.plan import FaultPlan
from workflows.embedded_cloud.faults.rules import FAULTS, Rule, parse_rules

__all__ = ["FAULTS", "FaultPlan", "Rule", "parse_rules"]
