"""The layout that reads any other: a table of files.

One row per image and rater. Columns ``image``, ``label`` and ``subject`` must be there; ``domain``,
``rater``, ``split``, and ``spacing_mm`` may be.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from segconf_lite import check
from segconf_lite.readers.cases import Case, Found, Naming, name_from_path

#: What this layout has, for messages.
LOOKS = "one CSV with the columns image, label and subject"
_MUST = ("image", "label", "subject")


def is_here(root: Path) -> bool:
    """Whether a folder has this layout, or a path is such a table.

    Example:
        >>> is_here(Path("no/such/table.csv"))
        False
    """
    return _path(root) is not None


def find(root: Path, naming: Naming) -> Found:
    r"""The cases of a table.

    Args:
        root: The table, or a folder with one such table. Paths in it are relative to its folder; in
            ``image``, several separated by ``;`` are channels. Names of columns may have capital letters. A
            row without a ``label`` says that this rater has not segmented the image.
        naming: How cases get their names. By default the domain is the column ``domain``, or the name of the
            folder; a text is another column.

    Returns:
        The cases in the order of the table.

    Raises:
        ValueError: If a column is missing or a cell empty, an image is of two subjects or domains, or a rater
            has two rows for it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = path.write_text("Image,Label,Subject,Rater\na.png,1.png,p1,ann\na.png,2.png,p1,bob\n")
        >>> [(case.name, *case.labels) for case in find(path, Naming()).cases]
        [('a.png', 'ann', 'bob')]
    """
    path = _path(root)
    if path is None:
        raise check.refuse("root", f"a folder with {LOOKS}", root)
    rows = _rows(path)
    domain = naming.domain if isinstance(naming.domain, str) else "domain"
    if isinstance(naming.domain, str):
        check.columns(rows, [domain.strip().lower()], str(path))
    cases = []
    for image, group in rows.groupby("image", sort=False):
        where = str(image)
        raters = [str(rater) for rater in _column(group, "rater")]
        if len(set(raters)) < len(raters):
            fix = "name the raters in a column rater, or drop a row"
            raise check.refuse(f"image {where} in {path}", "in one row per rater", f"raters {raters}", fix)
        labels = {
            rater: path.parent / file for rater, file in zip(raters, group["label"], strict=True) if file
        }
        if not labels:
            raise check.refuse(
                f"image {where} in {path}", "segmented by a rater", "no label", "drop its rows"
            )
        subject = _one(path, group, "subject")
        if naming.subject is not None:
            subject = name_from_path("subject", where, naming.subject)
        named = _one(path, group, domain.strip().lower()) or path.parent.resolve().name
        if naming.domain is not None and not isinstance(naming.domain, str):
            named = name_from_path("domain", where, naming.domain)
        cases.append(
            Case(
                name=where,
                images=tuple(path.parent / file.strip() for file in where.split(";")),
                labels=labels,
                subject=subject,
                domain=named,
                split=_one(path, group, "split"),
                spacing_mm=_spacing(path, group),
            )
        )
    return Found("table", tuple(cases), None, ())


def _path(root: Path) -> Path | None:
    """The table itself: the only one of a folder that has the columns."""
    if root.is_file():
        return root if root.suffix.lower() in (".csv", ".tsv") else None
    tables = [path for path in sorted(root.glob("*.[cCtT][sS][vV]")) if set(_MUST) <= set(_header(path))]
    if len(tables) > 1:
        names = [path.name for path in tables]
        raise check.refuse("root", f"a folder with {LOOKS}", f"{names} in {root}", "give the path of one")
    return tables[0] if tables else None


def _header(path: Path) -> list[str]:
    try:
        return [str(name).strip().lower() for name in _read(path, 0).columns]
    except ValueError:  # pandas' errors of parsing and of decoding are such
        return []


def _read(path: Path, n_rows: int | None = None) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    options = {"dtype": str, "keep_default_na": False, "nrows": n_rows, "encoding": "utf-8-sig"}
    return pd.read_csv(path, sep=separator, **options)


def _rows(path: Path) -> pd.DataFrame:
    try:
        table = _read(path)
    except ValueError as error:
        fix = "save it as CSV in UTF-8, with commas"
        raise check.refuse(str(path), "a table", f"{type(error).__name__}: {error}", fix) from error
    table.columns = pd.Index([str(name).strip().lower() for name in table.columns])
    check.columns(table, _MUST, str(path))
    table = table.fillna("").apply(lambda column: column.str.strip())
    for name in ("image", "subject"):
        empty = (table[name] == "").to_numpy()
        if empty.any():
            got = f"an empty cell in row {int(empty.argmax()) + 2}"
            raise check.refuse(f"{name} in {path}", "named in every row", got, "complete it")
    return table.assign(**{name: table[name].str.replace("\\", "/") for name in ("image", "label")})


def _column(group: pd.DataFrame, name: str) -> list[str]:
    return group[name].tolist() if name in group.columns else [""] * len(group)


def _one(path: Path, group: pd.DataFrame, name: str) -> str:
    """What all rows of an image say in a column; the empty text if there is no such column."""
    found = sorted(set(_column(group, name)))
    if len(found) > 1 or (name in group.columns and found == [""]):
        image = group["image"].iloc[0]
        raise check.refuse(f"image {image} in {path}", f"of one {name}", found, "mend its rows")
    return found[0]


def _spacing(path: Path, group: pd.DataFrame) -> tuple[float, float] | None:
    text = _one(path, group, "spacing_mm")
    if not text:
        return None
    value = float(pd.to_numeric(text, errors="coerce"))
    name = f"spacing_mm of {group['image'].iloc[0]} in {path}"
    return (check.number(name, value, low=0, open_low=True, fix="of rows and columns, e.g. 0.5"),) * 2
