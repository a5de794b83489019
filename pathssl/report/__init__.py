"""Run folders -> tables, statistics, curves and one page that answers the study's question. Needs no torch."""

from pathssl.report.page import write_report

__all__ = ["write_report"]
