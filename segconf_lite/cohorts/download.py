"""Public data sets: where they lie, and how they get there.

Files are compared with SHA-256 sums that ship with the package (``registry/NAME.txt``, the format
of ``sha256sum``), so a download that was cut short, altered or replaced is never read as data.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import pooch

from segconf_lite.resources import user_folder

__all__ = ["BY_HAND", "SOURCES", "data_folder", "fetch", "find", "registry"]

_GM_COMMIT = "dfa78f751953eaafcf62e77fbc2f7ec6df668e14"

# name -> (address under which every file of the registry lies, how a person gets the same files)
SOURCES: dict[str, tuple[str, str]] = {
    "gm_challenge": (
        f"https://raw.githubusercontent.com/sct-pipeline/gm-challenge-data/{_GM_COMMIT}/",
        "git clone https://github.com/sct-pipeline/gm-challenge-data gm_challenge && "
        f"git -C gm_challenge checkout {_GM_COMMIT}",
    ),
}

# name -> how a person gets it, where no address is known under which every file lies as it is read here
BY_HAND: dict[str, str] = {
    "retina_chase_hrf": (
        "unpack CHASE_DB1 (https://researchdata.kingston.ac.uk/96/, 28 images, CC BY 4.0) into "
        "retina_chase_hrf/CHASE_DB1/ (Image_01L.jpg, Image_01L_1stHO.png, ...), and HRF "
        "(https://www5.cs.fau.de/research/data/fundus-images/, 45 images, CC BY 4.0) into "
        "retina_chase_hrf/HRF/ (images/, manual1/, mask/)"
    ),
    "published_results": (
        "clone https://github.com/amithjkamath/to_skip_or_not (commit "
        "42b0b28b259195822dd98218159a7b90b6616ba7, Apache-2.0) and stack its 360 tables "
        "results/DATASET-results/DATASET_stats_NETWORK_LEVEL_256_SEED.csv into "
        "published_results/skip_connections_per_image.csv.gz with the columns dataset, network, level, seed, "
        "image, dice, hausdorff_px, surface_dice_5px, mean_surface_distance_px (levels renamed: higher = "
        "easiest, high = easier, in-domain = unperturbed, low = harder, lower = hardest); clone "
        "https://github.com/amithjkamath/context_vs_fbr (commit 7e49948, MIT) and stack its "
        "results/DATASET-NETWORK/DATASET-NETWORK-PATCH-RUN.csv into "
        "published_results/context_foreground_per_image.csv.gz with the columns dataset, network, patch, "
        "run, image, dice, hausdorff, abs_volume_difference_ratio, test_volume_foreground_ratio, and "
        "train_ratio_min and train_ratio_max, the range of foreground_ratios-PATCH.csv beside them"
    ),
}


def data_folder() -> Path:
    """Where downloads lie: ``$SEGCONF_HOME/data``, else ``data`` in the user's cache folder."""
    return user_folder() / "data"


def find(name: str) -> Path:
    """The folder of data set ``name`` on this computer; nothing is downloaded.

    Looks in ``$SEGCONF_DATA/name`` (if the variable is set), then in ``data_folder()/name``.

    Raises:
        FileNotFoundError: If neither is a folder. The message says where was looked and how to
            get the data.
    """
    own = os.environ.get("SEGCONF_DATA")
    places = [Path(own).expanduser() / name] if own else []
    places.append(data_folder() / name)
    for place in places:
        if place.is_dir():
            return place
    command = f"Get it with `segconf data {name}` (in Python: segconf_lite.cohorts.download.fetch({name!r}))"
    how = f"It has to be fetched by hand: {BY_HAND[name]}" if name in BY_HAND else command
    raise FileNotFoundError(
        f"data set {name!r} is not on this computer; looked in {' and '.join(map(str, places))}. "
        f"{how}, or set SEGCONF_DATA to the folder that holds {name}/"
        + ("" if own else " (SEGCONF_DATA is not set now)")
    )


def registry(name: str) -> dict[str, str]:
    """Relative path -> SHA-256 (hex) of every file of data set ``name``.

    Raises:
        ValueError: If there is no such data set (the message lists those that are), or it has to be
            fetched by hand (the message says how).
    """
    if name in BY_HAND:
        raise ValueError(f"data set {name!r} has to be fetched by hand: {BY_HAND[name]}, in {data_folder()}")
    if name not in SOURCES:
        raise ValueError(f"expected a data set out of {sorted([*SOURCES, *BY_HAND])}, got {name!r}")
    text = resources.files("segconf_lite.cohorts").joinpath(f"registry/{name}.txt").read_text("utf-8")
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return {path: digest for digest, path in pairs}


def fetch(name: str, *, base_url: str | None = None, folder: Path | str | None = None) -> Path:
    """Download what is missing of data set ``name``, and say where it lies.

    Each file is written under a temporary name, checked, then renamed: an interrupted call keeps
    what it finished, and the next call goes on from there. A file that was altered is replaced.

    Args:
        name: a key of ``SOURCES``, e.g. ``"gm_challenge"`` (37 files, 14 MB, CC0).
        base_url: another address that holds the same files (a mirror of a course, say); the
            SHA-256 sums stay the same.
        folder: where to write; by default ``data_folder()/name``.

    Returns:
        The folder that holds the data set.

    Raises:
        ValueError: If the data set is unknown, or a file arrives with another content than
            expected (it is not kept).
        ConnectionError: If a file cannot be downloaded. The message gives the steps by hand.
        OSError: If the folder cannot be written.
    """
    digests = registry(name)
    target = Path(folder) if folder is not None else data_folder() / name
    address = (base_url or SOURCES[name][0]).rstrip("/") + "/"
    store = pooch.create(
        path=target,
        base_url=address,
        registry={path: f"sha256:{digest}" for path, digest in digests.items()},
        retry_if_failed=2 if base_url is None else 0,
    )
    logger, level = pooch.get_logger(), pooch.get_logger().level
    logger.setLevel("WARNING")  # it would announce every single file
    try:
        for n_done, path in enumerate(digests):
            _fetch_one(store, path, _by_hand(name, target, n_done, len(digests)))
    finally:
        logger.setLevel(level)
    return target


def _fetch_one(store: pooch.Pooch, path: str, by_hand: str) -> None:
    """Download one file unless it is there and whole; say what failed and what to do."""
    try:
        store.fetch(path)
    except ValueError as error:
        raise ValueError(
            f"{store.get_url(path)}: expected SHA-256 {store.registry[path].removeprefix('sha256:')}, "
            f"got another content (the upstream file changed, or a proxy answered in its place); "
            f"it was not kept. {by_hand}"
        ) from error
    except OSError as error:  # every error of requests is one
        # A full disk or a read-only folder is not the network's fault; requests sets no errno.
        if error.errno is not None:
            raise
        raise ConnectionError(
            f"{store.get_url(path)}: could not be downloaded ({type(error).__name__}: {error}). {by_hand}"
        ) from error


def _by_hand(name: str, target: Path, n_done: int, n_files: int) -> str:
    return (
        f"{n_done} of {n_files} files are already in {target} and are kept: call again to go on. "
        f"By hand: run `{SOURCES[name][1]}` where there is a connection, and either copy that folder "
        f"to {target} or set SEGCONF_DATA to the folder that holds {name}/"
    )
