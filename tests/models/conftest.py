"""A cohort that a network learns in a second: one bright disc on noise."""

import numpy as np
import pytest

from segconf_lite.cohorts.cohort import Cohort


def _disc_cohort(n_cases: int = 40, *, size: int = 32, seed: int = 0, cases_per_subject: int = 2) -> Cohort:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centre = rng.uniform(0.35 * size, 0.65 * size, (2, n_cases, 1, 1))
    radius = rng.uniform(0.12 * size, 0.25 * size, (n_cases, 1, 1))
    labels = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2).astype(np.int64)
    images = 2 * labels + rng.normal(0, 0.5, labels.shape)
    return Cohort(
        images=images.astype(np.float32)[:, None],
        labels=labels,
        domains=np.repeat("A", n_cases),
        subjects=np.array([f"s{case // cases_per_subject}" for case in range(n_cases)]),
        spacing_mm=np.ones((n_cases, 2)),
        class_names=("background", "disc"),
    )


@pytest.fixture(scope="session")
def disc_cohort():
    return _disc_cohort
