"""Everything that the report says of a study, computed once; the page and the files beside it only write it down."""

from dataclasses import dataclass

from pathssl.report.cases import CaseTable, case_tables
from pathssl.report.comparison import (
    Comparison,
    Reading,
    Verdict,
    choose_reading,
    compare_all,
    verdicts,
)
from pathssl.report.compute import EqualCompute, equal_compute
from pathssl.report.coverage import Account, account
from pathssl.report.gain import gain_sentence, unlearned
from pathssl.report.heatmap import HeatMap, heat_map
from pathssl.report.labelfree import LabelFree, label_free
from pathssl.report.nulls import NullTable, null_tables
from pathssl.report.over_cases import over_cases
from pathssl.report.pareto import Pareto, pareto
from pathssl.report.peak import PeakTable, peak_tables
from pathssl.report.published import Beside, published_beside
from pathssl.report.study import Study
from pathssl.report.tasks import task_rows
from pathssl.report.unequal import Unequal, unequal_variances


@dataclass(frozen=True)
class Findings:
    """`answers` are the verdicts of the study's family. What is None or empty was not measured, or does not apply.

    unlearned: warnings that training did nothing; `gain` is told there too, or in the text of the answer.
    """

    study: Study
    reading: Reading
    comparisons: list[Comparison]
    answers: list[Verdict]
    unequal: dict[str, Unequal]
    gain: str | None
    unlearned: list[str]
    slides: Account
    nulls: list[NullTable]
    cases: list[CaseTable]
    compute: EqualCompute | None
    pareto: Pareto | None
    peak: list[PeakTable]
    labelfree: LabelFree | None
    heatmap: HeatMap | None
    published: Beside | None
    tasks: list[dict]


def find(study: Study) -> Findings:
    """What the runs of the study come to, as far as they have come."""
    reading = choose_reading(study)
    comparisons = compare_all(study, reading)
    predicted = over_cases(study, reading)
    nulls = null_tables(study, predicted)
    return Findings(
        study=study,
        reading=reading,
        comparisons=comparisons,
        answers=[answer for one in comparisons if one.key in study.family for answer in verdicts(one)],
        unequal=unequal_variances(study, reading, comparisons),
        gain=gain_sentence(comparisons[0]) if comparisons else None,
        unlearned=unlearned(study, reading, comparisons, nulls),
        slides=account(study, reading.runs),
        nulls=nulls,
        cases=case_tables(study, predicted, comparisons),
        compute=equal_compute(study, reading, comparisons),
        pareto=pareto(study, reading, comparisons),
        peak=peak_tables(study, reading, comparisons),
        labelfree=label_free(study, reading),
        heatmap=heat_map(study, reading, comparisons),
        published=published_beside(study, reading),
        tasks=task_rows(study),
    )
