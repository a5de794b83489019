"""Can a linear probe tell from features where a slide was made? What it can tell, a model may take for biology.

Axes: N patches, D features.
"""

import logging
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pathssl.errors import UserError
from pathssl.metrics import balanced_accuracy

log = logging.getLogger(__name__)
UNKNOWN = "unknown"  # the site of slides that nobody has named one for


class SiteTest:
    """Logistic regression on standardised features tells the sites of patches whose cases it has not seen.

    `cases_N` and `sites_N` are those of the held-out patches. Sites with two cases or more take part: another's only case cannot be
    trained on and tested. The cases of each site are dealt out to `folds` folds, or to as many as the site with the fewest cases has;
    each fold is predicted by a model (L2, `c` as in scikit-learn) that is fitted on the others, weighted so that sites count alike.
    Balanced accuracy is over the predictions of all folds. It is left out where fewer than two sites take part.
    """

    def __init__(self, cases_N: Sequence[str], sites_N: Sequence[str], *, folds: int, c: float):
        if folds < 2 or c <= 0:
            raise UserError(f"robustness: site_folds={folds}, site_c={c}: give two folds or more, and a C above 0.")
        self.c, self.sites_N = float(c), np.asarray(sites_N, str)
        sites_of: dict[str, set[str]] = {}
        for case, site in zip(cases_N, sites_N, strict=True):
            sites_of.setdefault(case, set()).add(site)
        cases: dict[str, list[str]] = {site: [] for site in sorted(set(sites_N) - {UNKNOWN})}
        for case, (site, *others) in sorted(sites_of.items()):
            if not others and site in cases:  # a case of two sites could stand in two folds
                cases[site].append(case)
        self.tested = {site: own for site, own in cases.items() if len(own) >= 2}
        self.folds = min([folds, *map(len, self.tested.values())])
        fold_of = {(site, case): k % self.folds for site, own in self.tested.items() for k, case in enumerate(own)}
        self.fold_N = np.array([fold_of.get(pair, -1) for pair in zip(sites_N, cases_N, strict=True)], int)
        self._say(len(cases))

    def measure(self, features_ND: np.ndarray) -> dict[str, float]:
        """site_balanced_accuracy and site_chance, what guessing gives, by their keys in metrics.jsonl; empty where it is left out."""
        if len(self.tested) < 2:
            return {}
        predictions_N = self.sites_N.copy()
        with threadpool_limits(1, user_api="blas"):
            for fold in range(self.folds):
                test_N, train_N = self.fold_N == fold, (self.fold_N >= 0) & (self.fold_N != fold)
                scaler = StandardScaler().fit(features_ND[train_N].astype(np.float64))
                model = LogisticRegression(C=self.c, class_weight="balanced", max_iter=1000)
                model.fit(scaler.transform(features_ND[train_N].astype(np.float64)), self.sites_N[train_N])
                predictions_N[test_N] = model.predict(scaler.transform(features_ND[test_N].astype(np.float64)))
        tested_N = self.fold_N >= 0
        return {
            "unsupervised/site_balanced_accuracy": balanced_accuracy(self.sites_N[tested_N], predictions_N[tested_N]),
            "unsupervised/site_chance": 1 / len(self.tested),
        }

    def _say(self, known: int) -> None:
        cases = sum(map(len, self.tested.values()))
        if len(self.tested) < 2:
            log.info(
                "Whether features tell the site is left out: %d of %d known sites have two held-out cases, and it takes two "
                "(more of data.held_out.fraction, or `site` in the manifest).", len(self.tested), known,
            )  # fmt: skip
        else:
            log.info(
                "Whether features tell the site is tested on %d of %d sites with %d cases, in %d folds of whole cases: chance is %.3f.",
                len(self.tested), known, cases, self.folds, 1 / len(self.tested),
            )  # fmt: skip
