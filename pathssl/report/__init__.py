"""Run folders -> tables, statistics, curves and one page that answers the study's question. Needs no torch."""
