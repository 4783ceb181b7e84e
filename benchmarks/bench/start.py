"""What users wait for before anything happens: the import, a cohort of phantoms, and a network of the store.

    python benchmarks/bench/start.py

References: starting Python for the import, reading the file of the network for a hit in the store, drawing
noise of the same size for the phantom.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile

import numpy as np
from common import ROOT, Row, main, rows_of

from segconf_lite.cohorts import phantom
from segconf_lite.models import fit_unet
from segconf_lite.models.store import artefact_path, fitted
from segconf_lite.notebook import environment


def process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def measure(small: bool, runs: int) -> list[Row]:
    acts = {"python": lambda: process("pass"), "import segconf_lite": lambda: process("import segconf_lite")}
    rows = rows_of(acts, size="a process", n=1, runs=max(runs, 9), reference="python")
    for n in (24,) if small else (24, 96, 384):
        rng = np.random.default_rng(0)
        cohort = phantom.cohort(n)
        drawn = {
            "noise": lambda n=n, rng=rng: rng.normal(size=(10 * n, 96, 96)),
            "phantom": lambda n=n: phantom.cohort(n),
        }
        rows += rows_of(drawn, size=f"{n} x 96 x 96", n=n, runs=runs, reference="noise")
        with tempfile.TemporaryDirectory() as name, environment({"SEGCONF_HOME": name}):
            network = functools.partial(fitted, fit_unet, cohort, steps=1, progress=False)
            network()
            path = artefact_path(fit_unet, cohort, steps=1, progress=False)
            hits = {
                "reading the file": lambda path=path: path.read_bytes(),
                "hit in the store": network,
            }
            rows += rows_of(hits, size=f"{n} x 96 x 96", n=n, runs=runs, reference="reading the file")
    return rows


if __name__ == "__main__":
    main("What does the start cost?", measure)
