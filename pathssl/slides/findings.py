"""What is known of each slide while an index is being built."""

import logging

from pathssl.errors import UserError
from pathssl.slides.progress import Progress
from pathssl.slides.slide_index import SlideIndex
from pathssl.slides.survey import NO_TISSUE, Fault, Finding, without_tissue

log = logging.getLogger(__name__)
_REASONS_SHOWN = 10


class Findings:
    """What is known of each slide, from the progress file, from the index as it was, and from this build.

    The index may have been made for another `min_tissue`.
    """

    def __init__(self, progress: Progress, index: SlideIndex | None, fingerprints: dict[str, str], min_tissue: float):
        self._progress, self._index, self.fingerprints = progress, index, fingerprints
        self._min_tissue = min_tissue
        self._passing: dict[str, Fault] = {}  # faults that may have gone next time
        known = {} if index is None else dict(zip(index.paths, index.fingerprints, strict=True))
        self._rows = {} if index is None else {name: row for row, name in enumerate(index.paths)}
        self._old_faults: dict[str, Fault] = {}
        if index is not None:
            other = index.settings["min_tissue"] != min_tissue
            for (name, reason), fingerprint in zip(index.quarantined, index.quarantine_fingerprints, strict=True):
                if other and reason.startswith(NO_TISSUE):  # it may have enough now
                    continue
                known[name], self._old_faults[name] = fingerprint, Fault(reason, permanent=True)
        self._in_index = {name for name, fingerprint in known.items() if fingerprints.get(name) == fingerprint != ""}
        self._in_progress = {name for name in fingerprints if progress.fingerprint(name) == fingerprints[name]}

    def missing(self) -> list[str]:
        known = self._in_index | self._in_progress
        return [name for name in self.fingerprints if name not in known]

    def add(self, name: str, outcome: Finding | Fault) -> None:
        if isinstance(outcome, Fault):
            log.warning("quarantined %s: %s", name, outcome.reason)
        if isinstance(outcome, Fault) and not outcome.permanent:
            self._passing[name] = outcome
            self.fingerprints[name] = ""  # matches no file: the next build looks again
        else:
            self._progress.add(name, self.fingerprints[name], outcome)
            self._in_progress.add(name)

    def __getitem__(self, name: str) -> Finding | Fault:
        if name in self._passing:
            return self._passing[name]
        if name in self._in_progress:
            return self._progress.find(name)
        if name in self._old_faults:
            return self._old_faults[name]
        index, row = self._index, self._rows[name]
        tissue = index.tissue(row)
        without = without_tissue(tissue, index.cell_um, self._min_tissue)
        return without or Finding(float(index.mpp[row]), tissue, index.structure(row))

    def refuse_nothing_usable(self) -> None:
        reasons = []
        for name in self.fingerprints:
            if not isinstance(fault := self[name], Fault):
                return
            reasons.append(f"{name}: {fault.reason}")
        more = [f"... and {len(reasons) - _REASONS_SHOWN} more"] if len(reasons) > _REASONS_SHOWN else []
        listed = "\n".join("  " + reason for reason in reasons[:_REASONS_SHOWN] + more)
        raise UserError(f"None of {len(reasons)} slides can be used:\n{listed}")
