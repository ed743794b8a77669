"""A page to look at and listen to a separated recording: one HTML file that needs nothing else."""

from pixit.evaluation.report.page import write_report

__all__ = ["write_report"]
