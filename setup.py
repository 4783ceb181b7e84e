"""The wheel carries the files of the book, so that notebooks run where only the package is installed.

Everything else about the package is in pyproject.toml. An editable install reads the checkout instead.
"""

import gzip
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def copy_series(target: Path) -> None:
    """Copy the claims, the quizzes, the stored results and the notebooks; tables are compressed."""
    shutil.rmtree(target, ignore_errors=True)  # what an earlier build left here may be gone from the book
    results = ROOT / "book" / "results"
    found = [ROOT / "book" / "claims.yml", *(ROOT / "book" / "quizzes").glob("*.yml")]
    found += [path for kind in ("*.csv", "*.csv.gz", "*.json") for path in results.rglob(kind)]
    found += [path for path in (ROOT / "notebooks").glob("[0-9]*") if path.suffix in {".py", ".ipynb"}]
    for path in found:
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":  # no time inside: equal tables make equal wheels
            copy.with_name(f"{copy.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        else:
            shutil.copyfile(path, copy)


class BuildWithSeries(build_py):
    """The usual copying of modules, and the files of the book beside them."""

    def run(self) -> None:
        """Copy everything into the build folder."""
        super().run()
        if not self.editable_mode:
            copy_series(Path(self.build_lib) / "segconf_lite" / "_series")


setup(cmdclass={"build_py": BuildWithSeries})
