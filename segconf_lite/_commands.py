"""What the commands of `segconf` do, each with its parsed options; returns the exit status."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from segconf_lite import __version__, doctor


def data(options: argparse.Namespace) -> int:
    step, name = options.step, options.name
    if step not in ("list", "get", "check"):
        if name is not None:
            raise ValueError(f"expected list, get NAME or check NAME, got {step} {name}")
        step, name = "get", step
    if step == "list":
        print("Data sets, each to be had with: segconf data get NAME")
        doctor.print_data_sets()
        return 0
    if name is None:
        raise ValueError(f"{step} needs the name of a data set, e.g. `segconf data {step} gm_challenge`")
    from segconf_lite import datasets
    from segconf_lite.cohorts import download

    if step == "check":
        lines, is_whole = datasets.report(name)
        print("\n".join(lines))
        return 0 if is_whole else 1
    if options.archive:
        print(f"{name} is at {datasets.from_archive(name, options.archive)}")
        return 0
    upstream = [download.SOURCES[name][0]] if options.mirror and name in download.SOURCES else []
    print(f"{name} is at {download.fetch(name, base_url=[*options.mirror, *upstream] or None)}")
    return 0


def store(options: argparse.Namespace) -> int:
    from segconf_lite import classroom

    if options.step == "pack":
        packed = classroom.pack(options.file, chapters=options.chapters)
        size_mb = Path(options.file).stat().st_size / 1e6
        print(f"{len(packed)} trained networks are in {options.file} ({size_mb:.0f} MB)")
        return 0
    done = classroom.unpack(options.file)
    print(f"{len(done.new)} trained networks are new in the store, {len(done.kept)} were there before")
    return 0


def cohort(options: argparse.Namespace) -> int:
    from segconf_lite.readers import describe_folder

    domain = _pattern("domain", options.domain)
    labels = _label_names(options.labels)
    report = describe_folder(
        options.folder, layout=options.layout, labels=labels, domain=domain, limit=options.limit
    )
    print(report)
    if report.problems:
        raise ValueError(f"problems found: {len(report.problems)}, see the end of the report")
    return 0


def _pattern(name: str, text: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ValueError(f"--{name} must be a regular expression, got {text}: {error}") from error


def _label_names(text: str | None) -> dict[int, str] | None:
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(value.strip().isdigit() and name.strip() for value, _, name in pairs):
        raise ValueError(f"--labels must be VALUE=NAME,..., got {text}; e.g. 0=background,1=organ")
    return {int(value): name.strip() for value, _, name in pairs}


def probe(options: argparse.Namespace) -> int:
    from segconf_lite.models import probe
    from segconf_lite.own import load_network

    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    network = load_network(options.model, options.weights or "")
    print(probe(network, options.size, channels=options.channels))
    return 0


def notebooks(options: argparse.Namespace) -> int:
    from segconf_lite import resources

    copied = resources.copy_notebooks(options.folder, force=options.force)
    folder = options.folder
    print(f"{len(copied)} notebook files of version {__version__} are in {folder}; try: jupyter lab {folder}")
    return 0


def run(options: argparse.Namespace) -> int:
    from segconf_lite import notebook, parameters

    path = notebook.find_notebook(options.notebook)
    values = parameters.typed(parameters.read(path), options.parameter, where=path.name)
    if values.get("cases_out"):  # a notebook works in its own folder; the caller means this one
        values["cases_out"] = str(Path(str(values["cases_out"])).resolve())
    target = Path(options.out) if options.out else _default_out(path, options.parameter)
    stated = notebook.stated_minutes(path)
    print(f"{path.stem}: running" + (f", its header states {stated:g} min" if stated else ""), flush=True)
    minutes = notebook.execute(path, target, values) / 60
    note = ""
    if stated:
        note = f" (stated: {stated:g})" if minutes <= 1.5 * stated else f" (stated: {stated:g}; MUCH LONGER)"
    print(f"{path.stem}: done in {minutes:.1f} min{note} -> {target}")
    return 0


def _default_out(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """Plain runs go where the book looks for them; runs with parameters go elsewhere, named by them."""
    from segconf_lite.grid import label

    if not pairs:
        return Path("_build/executed") / f"{path.stem}.ipynb"
    values = dict(pairs)
    return Path("_build/runs") / f"{path.stem}__{label(values, values)}.ipynb"


def sweep(options: argparse.Namespace) -> int:
    from segconf_lite import grid, notebook

    path = notebook.find_notebook(options.notebook)
    folder = options.out or Path("_build/sweeps") / path.stem
    outcome = grid.sweep(path, options.parameter, folder=folder, jobs=options.jobs)
    print("\n".join(outcome.lines))
    if outcome.table:
        print(f"{path.stem}: {len(outcome.lines) - outcome.failed} tables joined -> {outcome.table}")
    return 1 if outcome.failed else 0


def claims(options: argparse.Namespace) -> int:
    from segconf_lite.claims import recheck, report

    if options.step == "recheck":
        which = {"claim_id": options.id, "seed": options.seed, "minutes": options.minutes}
        print("\n".join(recheck.recompute(options.pick, profile=options.profile, **which)))
        return 0
    if options.step == "show":
        if options.id is None:
            raise ValueError(
                "claims show needs the ID of a claim, e.g. `segconf claims show near-but-harmful`"
            )
        print(report.show(options.id, profile=options.profile))
        return 0
    changed = []
    if options.step == "judge":
        changed = recheck.settle_runs(profile=options.profile, accept=options.accept)
    kept = {"chapter": options.chapter, "cohort": options.cohort, "verdict": options.verdict}
    print(report.table(profile=options.profile, **kept))
    if changed:
        print(f"\nOther outcomes than those stored{'' if options.accept else ' (--accept stores them)'}:")
        print("\n".join(changed))
    return 1 if changed and not options.accept else 0


def recommend(options: argparse.Namespace) -> int:
    from segconf_lite.reports import recommend_method

    budget = {"passes": options.passes, "networks": options.networks, "labels": options.labels}
    print(recommend_method(want=options.want, **budget).text())
    return 0


def review(options: argparse.Namespace) -> int:
    from segconf_lite import predictions

    found = predictions.from_predictions(
        options.predictions,
        images=options.images,
        references=options.labels,
        skip_damaged=options.skip_damaged,
        domain=_pattern("domain", options.domain),
        subject=_pattern("subject", options.subject),
    )
    reviewed = predictions.review_predictions(found, score=options.score, training=options.training)
    table = predictions.write_page(reviewed, options.out)
    print(f"{len(reviewed.cases)} cases are ranked in {options.out}, the table is {table}")
    if found.skipped:
        print(f"{len(found.skipped)} of {len(found)} cases are left out as damaged, as the page says")
    return 0
