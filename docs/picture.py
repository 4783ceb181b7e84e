"""Draw docs/picture.svg, the picture of the README. `make picture` does it.

Above, it shows one simulated heart as each scanner sees it. Below, it shows every test slice of the stored
runs of chapter 1: the Dice against the mean probability that the network gives to the foreground it predicts.
No network is trained here, and the file loads nothing from anywhere.
"""

import base64
import csv
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from segconf_lite.cohorts import phantom

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "book" / "results" / "chapter_01_lite_cases.csv"
LOOKS = {
    "A": "training",
    "B": "almost A",
    "C": "bright fat",
    "D": "everything worse",
    "E": "blurred",
    "F": "fat suppressed",
}
FAILED, CERTAIN = 0.7, 0.8  # Dice and probability, as in the claim "failures-sound-sure"
WIDTH, LEFT, TOP = 1000, 84, 74
SIDE, GAP, HEIGHT = 138, 14, 150  # side of an image, gap between columns, height of a plot; pixels
PLOT = TOP + SIDE + 26  # upper edge of the plots
LOWEST = 0.4  # left end of the probability axis
BLUE, RED = "#2b6cb0", "#c53030"


def png(image: np.ndarray) -> str:
    """A slice (H, W) as the address of a PNG that lies in the address itself.

    Intensities are shown from their 1st to their 99th percentile, in 32 levels to keep the file small.
    """
    low, high = np.percentile(image, (1, 99))
    levels = np.rint(31 * np.clip((image - low) / (high - low), 0, 1))
    buffer = io.BytesIO()
    Image.fromarray((levels * (255 / 31)).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def cases() -> dict[str, list[tuple[float, float]]]:
    """Scanner -> (probability, Dice) of each slice that has any predicted foreground, over five seeds."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in LOOKS}
    with TABLE.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["cohort"] == "phantom" and row["confidence"]:
                found[row["domain"]].append((float(row["confidence"]), float(row["quality"])))
    return found


def across(probability: float) -> float:
    """Pixels from the left edge of a plot."""
    return (probability - LOWEST) / (1 - LOWEST) * SIDE


def down(dice: float) -> float:
    """Pixels from the top of the drawing."""
    return PLOT + (1 - dice) * HEIGHT


def points(pairs: list[tuple[float, float]], left: float, colour: str) -> str:
    """A path with one round dot per pair; dots that would cover each other are drawn once."""
    dots = {f"M{left + across(x):.0f} {down(y):.0f}h0" for x, y in pairs}
    style = f'stroke="{colour}" stroke-width="3.4" stroke-linecap="round" stroke-opacity="0.55"'
    return f'<path {style} d="{"".join(sorted(dots))}"/>'


def text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {more}>{words}</text>'


def column(name: str, left: float, pairs: list[tuple[float, float]]) -> list[str]:
    """Image and plot of one scanner."""
    image = phantom.cohort(3, scanner=name, seed=0).images[2, 0]
    silent = [(x, y) for x, y in pairs if y < FAILED and x > CERTAIN]
    middle = left + SIDE / 2
    return [
        text(middle, TOP - 26, f"Scanner {name}", more='font-weight="bold"'),
        text(middle, TOP - 8, LOOKS[name]),
        f'<image x="{left}" y="{TOP}" width="{SIDE}" height="{SIDE}" href="{png(image)}"/>',
        f'<rect x="{left}" y="{PLOT}" width="{SIDE}" height="{HEIGHT}" fill="none" stroke="#999999"/>',
        points([pair for pair in pairs if pair not in silent], left, BLUE),
        points(silent, left, RED),
        *(text(left + across(x), PLOT + HEIGHT + 18, f"{x:.1f}") for x in (0.5, 0.7, 0.9)),
    ]


def drawing() -> str:
    """The whole SVG."""
    found = cases()
    shown = [pair for pairs in found.values() for pair in pairs]
    failures = [probability for probability, dice in shown if dice < FAILED]
    silent = sum(probability > CERTAIN for probability in failures)
    height, below = PLOT + HEIGHT + 96, PLOT + HEIGHT
    side = f'transform="translate({LEFT - 46} {PLOT + HEIGHT / 2:.0f}) rotate(-90)"'
    headline = "A network has learned on scanner A. Does it know where it is wrong on the others?"
    which = f"One dot per test slice in which the network predicts any foreground ({len(shown):,} slices"
    count = f"Red: {silent} of the {len(failures)} slices with a Dice below {FAILED} have a mean probability"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14" fill="#1a1a1a">',
        "<title>One heart on six scanners, and the Dice and probabilities of a network there</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(LEFT, 26, headline, "start", 'font-size="20" font-weight="bold"'),
    ]
    for k, (name, pairs) in enumerate(found.items()):
        parts += column(name, LEFT + k * (SIDE + GAP), pairs)
    parts += [text(LEFT - 8, down(dice) + 5, f"{dice:.1f}", "end") for dice in (0.0, 0.5, 1.0)]
    parts += [
        f'<text {side} text-anchor="middle">Dice</text>',
        text(LEFT + 3 * SIDE + 2.5 * GAP, below + 40, "mean probability of the predicted foreground"),
        text(LEFT, below + 64, f"{which}, five networks of different seeds).", "start"),
        text(
            LEFT, below + 84, f"{count} above {CERTAIN}; they are silent failures.", "start", f'fill="{RED}"'
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "picture.svg"
    target.write_text(drawing(), "utf-8")
    print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")
