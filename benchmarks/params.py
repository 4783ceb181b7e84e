"""Run chapters at settings other than the book's, small, and check that they say so. `make params` does it.

    python benchmarks/params.py            # every chapter at two settings
    python benchmarks/params.py 90 04      # these only
    python benchmarks/params.py 90 --first # only the first setting of each

Each run also writes its table of cases, so the cells that only a sweep runs are run, too.
Together the settings turn every parameter of every chapter at least once (a test holds that). Trained
networks go into a store of their own under the folder of results, so nothing here fills the reader's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

ROOT = Path(__file__).parents[1]
OWN = ROOT / "_build/params/own"  # what `write_own` writes for chapter 12
SMALL = {"n_train": 24, "n_test": 12, "n_steps": 15}
OF_ONES_OWN = {
    "cohort": "folder",
    "root": f"{OWN}/images",
    "domain": r"\b([A-F])_\d",
    "reading": '{"limit": 20}',
    "source_domain": "F",
}

# Chapter -> two settings, small: what is tested is that a chapter runs and stays honest, not what it finds.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "00": [
        {"n_train": 24, "n_steps": 15, "n_samples": 3, "n_members": 2, "n_reviews": 3},
        {"n_train": 30, "n_steps": 12, "n_samples": 4, "n_members": 3, "wrong_below": 0.5},
    ],
    "01": [
        SMALL | {"source_scanner": "B", "dropout": 0.3, "jitter": 0.0},
        SMALL | {"unseen_scanners": "EC", "jitter": 2.0, "failed_below": 0.5},
    ],
    "02": [
        SMALL | {"source_scanner": "D", "unseen_scanners": "AF", "n_samples": 3, "n_members": 2},
        SMALL
        | OF_ONES_OWN
        | {
            "unseen_scanners": "C",
            "dropout": 0.5,
            "n_samples": 4,
            "n_members": 2,
            "pass_rate": 0.8,
            "n_raters": 2,
        },
    ],
    "03": [
        SMALL | {"source_scanner": "E", "unseen_scanners": "FA", "variation": 2.0, "n_members": 1},
        SMALL | OF_ONES_OWN | {"unseen_scanners": "D", "dropout": 0.3, "pass_rate": 0.8, "n_members": 2},
    ],
    "04": [
        SMALL
        | {
            "source_scanner": "C",
            "unseen_scanners": "AD",
            "effect_size": 0.3,
            "n_members": 1,
            "n_answers": 3,
        },
        SMALL
        | OF_ONES_OWN
        | {"unseen_scanners": "B", "augmentation": "strong", "dropout": 0.3, "n_members": 2, "n_answers": 4},
    ],
    "05": [
        SMALL
        | {
            "n_train": 48,
            "source_scanner": "C",
            "unseen_scanner": "F",
            "n_members": 1,
            "n_penalty": 2,
            "n_models": 2,
            "search_steps": 2,
            "n_annotated": 6,
        },
        SMALL
        | {
            "n_train": 48,
            "budget": 1e-3,
            "noise_budget": 1e-2,
            "n_members": 1,
            "n_penalty": 2,
            "n_models": 3,
            "search_steps": 3,
            "n_annotated": 8,
        },
    ],
    "06": [
        SMALL
        | {
            "source_scanner": "B",
            "n_rung": 12,
            "n_members": 1,
            "n_blobs": 16,
            "blob_steps": 5,
            "noise_steps": 10,
            "severity_shown": 2,
        },
        SMALL
        | {"n_rung": 18, "n_members": 2, "n_blobs": 24, "blob_steps": 8, "noise_steps": 12, "pass_rate": 0.8},
    ],
    "07": [
        {"n_train": 16, "n_test": 24, "n_steps": 5, "radius_min": 20, "radius_max": 30},
        {"n_train": 24, "n_test": 30, "n_steps": 8, "centred_share": 0.9, "worst_severity": 4},
    ],
    "08": [
        SMALL
        | {
            "source_scanner": "B",
            "n_victims": 12,
            "n_members": 1,
            "attack_steps": 2,
            "sigma": 0.5,
            "epsilon": 0.3,
        },
        SMALL
        | {
            "n_victims": 15,
            "n_members": 2,
            "attack_steps": 3,
            "train_eps": 0.1,
            "quiet_weight": 0.5,
            "grey_levels": 64,
        },
    ],
    "09": [
        {
            "n_train": 24,
            "n_steps": 15,
            "source_scanner": "C",
            "unseen_scanners": "AE",
            "n_home": 450,
            "level": 0.8,
            "n_labelled": 10,
            "n_draws": 50,
            "alarm_at": 5.0,
            "missed_limit": 0.2,
        },
        {
            "n_train": 30,
            "n_steps": 12,
            "unseen_scanners": "F",
            "n_home": 480,
            "n_draws": 60,
            "review_budget": 0.4,
            "missed_cost": 5.0,
        },
    ],
    "10": [
        SMALL
        | {"question": "failures", "scanners": "BDF", "failed_below": 0.6, "n_shown": 6, "harmful": 0.02},
        SMALL | {"question": "scanner", "scanners": "CDEF", "most_passes": 5, "n_shown": 4, "harmful": 0.005},
    ],
    "11": [
        {"n_steps": 6, "scanners": "BDF", "n_people": 9, "n_draws": 30},
        {"n_steps": 5, "scanners": "CDE", "n_people": 24, "n_draws": 40, "harmful": 0.02},
    ],
    "12": [
        {
            "cohort": "folder",
            "root": f"{OWN}/images",
            "domain": r"\b([A-F])_\d",
            "reading": '{"limit": 12}',
            "source_domain": "F",
            "n_source": 108,
            "n_steps": 12,
            "report": f"{OWN}/review_1.html",
        },
        {
            "network": f"{OWN}/network.py:build",
            "checkpoint": f"{OWN}/weights.safetensors",
            "output": "probabilities",
            "predictions": f"{OWN}/predictions",
            "references": f"{OWN}/images/labelsTr",
            "n_source": 120,
        },
    ],
    "90": [
        {"n_cases": 20, "n_shuffles": 50, "noise": 0.5},
        {"n_cases": 400, "n_shuffles": 20, "beta_shape": 1.0, "wrong_above": 0.5},
    ],
}


def write_own(folder: Path) -> None:
    """Miniatures of what a reader brings to chapter 12: images, predictions, a network and its weights."""
    import dataclasses

    from safetensors.torch import save_file

    from segconf_lite import own
    from segconf_lite.cohorts import Cohort, phantom

    made = [(name, phantom.cohort(72, scanner=name, size=32, seed=ord(name))) for name in "FA"]
    names = [np.array([f"{name}_{text.split('-')[1]}" for text in cohort.subjects]) for name, cohort in made]
    renamed = [dataclasses.replace(c, subjects=n, sessions=n) for (_, c), n in zip(made, names, strict=True)]
    both = Cohort.concatenate(renamed)
    own.write_nnunet(folder / "images", both)
    sure = np.moveaxis(0.9 * np.eye(4)[both.labels] + 0.025, -1, 1)
    own.write_predictions(folder / "predictions", both, sure)
    lines = [
        "from torch import nn",
        "",
        "build = lambda: nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.Softmax(1))",
    ]
    (folder / "network.py").write_text("\n".join(lines), "utf-8")
    network = own.load_network(f"{folder}/network.py:build")
    save_file(network.state_dict(), folder / "weights.safetensors")


def run(chapter: str, values: dict[str, Any], folder: Path, name: str) -> tuple[float, str]:
    """Seconds that the chapter took at these values, and what is wrong with the run; nothing is "ok"."""
    out = (folder / f"{name}.ipynb").resolve()
    given = [text for key, value in values.items() for text in ("-p", key, str(value))]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "SEGCONF_QUIET": "1"}
    alone["SEGCONF_HOME"] = str((folder / "home").resolve())
    source = next(ROOT.glob(f"notebooks/{chapter}*.py"))
    swept = "cases_out = " in source.read_text("utf-8")  # then also run what only a sweep runs
    given += ["-p", "cases_out", str(out.with_suffix(".csv.gz"))] if swept else []
    command = [sys.executable, "-m", "segconf_lite.cli", "run", str(source), *given, "--out", str(out)]
    start = time.perf_counter()
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    return seconds, done.stderr.strip() or "failed" if done.returncode else faults(out, values)


def faults(executed: Path, values: dict[str, Any]) -> str:
    """Why an executed chapter is not honest about its settings; "ok" if it is."""
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream").splitlines()
    notes = [line for line in printed if line.startswith("Other settings than the book's")]
    if len(notes) != 1 or not all(f"{name} = {value!r}" in notes[0] for name, value in values.items()):
        return f"expected one line that names all changed parameters, got {notes}"
    if claimed := [line for line in printed if line.endswith((": True", ": False"))]:
        return f"facts of the book are stated at other settings: {claimed}"
    figures = [
        o.data["application/vnd.plotly.v1+json"]
        for o in outputs
        if "application/vnd.plotly.v1+json" in o.get("data", {})
    ]
    told = [figure["layout"].get("meta", {}).get("alt", "") for figure in figures]
    silent = [alt for alt in told if not alt.startswith("Described as it is at the book's settings")]
    return f"text alternatives that do not say so: {silent}" if silent else "ok"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="*", help="numbers of chapters; all if none is named")
    parser.add_argument("--first", action="store_true", help="only the first setting of each chapter")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time")
    parser.add_argument("--out", type=Path, default=Path("_build/params"), help="folder of results")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    wanted = {c: SETTINGS[c][: 1 if given.first else None] for c in given.chapters or SETTINGS}
    if str(OWN) in str(wanted):
        write_own(OWN)
    bad, start = 0, time.perf_counter()
    with ThreadPoolExecutor(given.jobs) as pool:
        futures = {
            f"{chapter}_{k}": pool.submit(run, chapter, values, given.out, f"{chapter}_{k}")
            for chapter, settings in wanted.items()
            for k, values in enumerate(settings, start=1)
        }
        for name, future in futures.items():
            seconds, said = future.result()
            bad += said != "ok"
            print(f"{name}: {seconds:5.0f} s, {said}", flush=True)
    print(f"{len(futures) - bad} of {len(futures)} runs are fine, in {time.perf_counter() - start:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
