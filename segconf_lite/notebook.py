"""Run one notebook of the series, headless, with its parameters changed.

The source is the percent-format `.py` file (a plain `.ipynb` works too). papermill only warns about a
parameter that the notebook does not have; here that is an error, raised before anything runs.
"""

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segconf_lite import parameters as declared
from segconf_lite import resources

# glibc gives freed pages back and asks for them again in every step of a training, which costs a quarter
# of its time; these two tell it to keep them. Other systems do not read them.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000"}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_TIME = re.compile(r"\btime\b[^\d\n]{0,40}(\d+(?:\.\d+)?)\s*(minutes?|min|seconds?|sec|s)\b", re.IGNORECASE)


class NotebookFailedError(RuntimeError):
    """A cell of the notebook raised. The message holds the cell's error; `partial` is the half-run copy."""

    def __init__(self, message: str, partial: Path) -> None:
        super().__init__(message)
        self.partial = partial


def find_notebook(name: str, folder: str | Path | None = None) -> Path:
    """The notebook that a short name such as "01" means, or the path itself if it is one.

    Args:
        name: A path, or the beginning of a file name in `folder`.
        folder: Where to look for a short name. By default these are ``notebooks/``, the current folder (both
            may hold copies that were changed), and then the notebooks of the installed package.

    Raises:
        ValueError: If nothing or more than one file fits.

    Example:
        >>> find_notebook("03", resources.notebooks_folder()).name
        '03_segmentation_distortion.py'
    """
    path = Path(name)
    if path.suffix in {".py", ".ipynb"}:
        if path.is_file():
            return path
        raise ValueError(f"expected an existing notebook, got {name}: no such file")
    folders = [Path(folder)] if folder else [Path("notebooks"), Path(), resources.notebooks_folder()]
    for where in folders:
        fitting = sorted(p for p in where.glob("*.py") if name and p.name.startswith(name))
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    known = ", ".join(p.stem for p in sorted(where.glob("[0-9]*.py"))) or "none"
    what = f"fits {len(fitting)} notebooks" if fitting else "fits no notebook"
    raise ValueError(
        f"{name!r} {what} in {where}/ (there: {known}); give the number, e.g. 01, or the path of a notebook. "
        "The notebooks come with the package: `segconf notebooks FOLDER` copies them"
    )


def parameters_of(path: str | Path) -> dict[str, Any]:
    """Names and defaults that the notebook's `parameters` cell declares.

    Args:
        path: A `.py` (percent format) or `.ipynb` notebook.

    Returns:
        Default by name, in the order of the cell. A default that is no literal is given as its source text.

    Example:
        >>> parameters_of(find_notebook("90", resources.notebooks_folder()))["seed"]
        0
    """
    return {name: parameter.default for name, parameter in declared.read(path).items()}


def stated_minutes(path: str | Path) -> float | None:
    """Minutes that the notebook's header states first, e.g. 3.0 for "Time: about 3 min"; None if it has none.

    Args:
        path: A `.py` (percent format) or `.ipynb` notebook.

    Example:
        >>> stated_minutes(find_notebook("01", resources.notebooks_folder()))
        4.0
    """
    for cell in _read(path).cells[:3]:
        match = _TIME.search(cell.source) if cell.cell_type == "markdown" else None
        if match:
            return float(match[1]) / (1 if match[2].lower().startswith("m") else 60)
    return None


def facts(path: str | Path) -> list[tuple[str, bool]]:
    """What an executed notebook states about its results: (statement, whether it was true), in their order.

    Args:
        path: An executed `.ipynb`, whole or half-run. Its cells that begin with ``# FACTS`` print one fact
            per line.

    Returns:
        Empty if no such cell has run.

    Example:
        >>> facts(find_notebook("01", resources.notebooks_folder()))  # a source, which has no outputs
        []
    """
    cells = [cell for cell in _read(path).cells if cell.source.startswith("# FACTS\n")]
    streams = [o for cell in cells for o in cell.get("outputs", []) if o.output_type == "stream"]
    lines = "".join(stream.text for stream in streams if stream.name == "stdout").splitlines()
    cut = [line.rpartition(": ") for line in lines]
    return [(statement, verdict == "True") for statement, _, verdict in cut if verdict in ("True", "False")]


def check_parameters(path: str | Path, parameters: Mapping[str, object]) -> None:
    """Refuse what the notebook does not declare or allow, see `segconf_lite.parameters.check`.

    Args:
        path: The notebook.
        parameters: Values by name.

    Raises:
        ValueError: Naming what is wrong and what the notebook has.

    Example:
        >>> check_parameters(find_notebook("90", resources.notebooks_folder()), {"seed": -1})
        Traceback (most recent call last):
        ValueError: parameter seed of 90_which_eaurc.py: expected at least 0, got -1; ...
    """
    if parameters:
        declared.check(declared.read(path), parameters, where=Path(path).name)


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables inside a `with` block, and restore the old ones after it.

    Args:
        variables: Value of each variable.

    Example:
        >>> with environment({"SEGCONF_QUIET": "1"}):
        ...     print(os.environ["SEGCONF_QUIET"])
        1
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def saying_how_far(running: str | Path, name: str, every_s: float = 30) -> Iterator[None]:
    """Say on the error stream, inside a `with` block, how many cells of a notebook have run.

    Nothing is said if ``SEGCONF_QUIET`` is set.

    Args:
        running: The half-run copy, which papermill writes after each cell.
        name: Stands at the beginning of each line, since several notebooks may run at a time.
        every_s: Seconds between two lines.

    Example:
        >>> with saying_how_far("01.running.ipynb", "01_domain_shift"):  # says nothing: it ends within 30 s
        ...     print("running")
        running
    """
    if os.environ.get("SEGCONF_QUIET", "0") not in ("", "0"):
        yield
        return
    start, over = time.perf_counter(), threading.Event()

    def say() -> None:
        while not over.wait(every_s):
            with contextlib.suppress(OSError, ValueError):  # not there yet, or just being written
                cells = json.loads(Path(running).read_text("utf-8"))["cells"]
                done = sum(c["metadata"].get("papermill", {}).get("status") == "completed" for c in cells)
                seconds = time.perf_counter() - start
                print(
                    f"{name}: {done} of {len(cells)} cells after {seconds:.0f} s", file=sys.stderr, flush=True
                )

    speaker = threading.Thread(target=say, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        over.set()
        speaker.join()


def execute(path: str | Path, out: str | Path, parameters: Mapping[str, object] | None = None) -> float:
    """Run the notebook and write the executed copy to `out`.

    The copy appears under its name only when every cell has passed. After a failure the half-run copy stays
    at `out` with the ending `.failed.ipynb`, and an earlier good `out` is left as it was. What killed runs
    left unfinished in the folder of `out` is removed. A line on the error stream says every 30 s how many
    cells have run, unless ``SEGCONF_QUIET`` is set.

    Args:
        path: The notebook. The kernel works in its folder, as in Jupyter; for a notebook of the installed
            package it works in the current folder instead.
        out: Where the executed `.ipynb` goes.
        parameters: Values that replace defaults of the `parameters` cell.

    Returns:
        Seconds that the run took.

    Raises:
        ValueError: If a parameter is unknown, or a value is not allowed. Nothing has run then.
        NotebookFailedError: If a cell raised.

    Example:
        >>> execute(find_notebook("90", resources.notebooks_folder()), "which_eaurc.html")
        Traceback (most recent call last):
        ValueError: out must be a file that ends in .ipynb, got which_eaurc.html
    """
    path, out = Path(path), Path(out)
    check_parameters(path, parameters or {})
    if out.suffix != ".ipynb" or out.is_dir():
        raise ValueError(f"out must be a file that ends in .ipynb, got {out}")
    import papermill  # 2 s: only when something really runs
    from papermill.exceptions import PapermillExecutionError

    out.parent.mkdir(parents=True, exist_ok=True)
    resources.remove_leftovers(out.parent)
    failed = out.with_suffix(".failed.ipynb")
    running = resources.unfinished_name(out, "running.ipynb")
    folder = Path.cwd() if resources.is_installed(path) else path.resolve().parent
    used = resources.used_file(out.stem)
    with contextlib.suppress(OSError):  # a store that cannot be written is none of the notebook's concern
        resources.write_whole(used, "")
    start = time.perf_counter()
    try:
        variables = {k: os.environ.get(k, v) for k, v in _KEEP_MEMORY.items()}
        with environment(variables | {resources.USED: str(used)}), saying_how_far(running, path.stem):
            papermill.execute_notebook(
                _read(path),
                str(running),
                parameters=dict(parameters or {}),
                kernel_name="python3",
                language="python",
                cwd=str(folder),
                progress_bar=False,
                extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: no word about its transport
            )
    except PapermillExecutionError as error:
        running.replace(failed)
        trace = "\n".join(error.traceback) or f"{error.ename}: {error.evalue}"
        message = (
            f"{path.name} failed in cell {error.cell_index} with {error.ename}: {error.evalue}\n\n"
            f"{error.source}\n\n{_ANSI.sub('', trace)}\n\nThe half-run notebook is kept at {failed}"
        )
        raise NotebookFailedError(message, failed) from None
    except BaseException:  # the kernel died, or the user pressed Ctrl-C
        if running.exists():
            running.replace(failed)
        raise
    running.replace(out)
    failed.unlink(missing_ok=True)
    return time.perf_counter() - start


def _read(path: str | Path) -> Any:
    """The notebook as nbformat's node, whatever its ending."""
    import jupytext

    try:
        return jupytext.read(path)
    except Exception as error:  # whatever its parsers raise for a damaged file
        raise ValueError(f"expected a notebook, got {path}, which is damaged: {error}") from error
