"""A run's report: ``report.json``, and ``report.html``, which draws it."""

from lamella.report.build import build_report, failure_of
from lamella.report.model import Report
from lamella.report.page import page

__all__ = ["Report", "build_report", "failure_of", "page"]
