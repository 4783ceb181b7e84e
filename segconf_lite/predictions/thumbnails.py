"""Small pictures of predictions, as data addresses of PNG files.

Shape letters: S slices, H rows, W columns.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from segconf_lite.predictions.cases import PredictedCase
from segconf_lite.show.pictures import draw_borders

LONGEST = 56  # pixels of the slice that a thumbnail shows along its longer side
_MARGIN = 0.35  # of the box around what is outlined


def thumbnail(case: PredictedCase, labels: np.ndarray, *, around: np.ndarray | None = None) -> str:
    """The slice with most foreground, cropped to it, with the border of each class.

    Args:
        case: Its image is the background, or where it has none, the probability of any foreground.
        labels: (S, H, W) classes to outline: the predicted ones, or those of a person.
        around: (S, H, W) what is not 0 in the slice and in the crop; None takes the labels.

    Returns:
        The address. Where all is background, the middle slice is shown whole.

    Example:
        >>> half = np.full((1, 2, 3, 8, 8), 0.5, np.float32)
        >>> case = PredictedCase("a", "a", "all", half, np.zeros((3, 8, 8), int), None)
        >>> thumbnail(case, case.labels)[:22]
        'data:image/png;base64,'
    """
    around = labels if around is None else around
    areas = np.count_nonzero(around, axis=(1, 2))
    number = int(areas.argmax()) if areas.any() else len(areas) // 2
    image = case.probabilities[1:, number].sum(axis=0) if case.image is None else case.image[number]
    rows, columns = (_with_margin(around[number].any(axis=axis)) for axis in (1, 0))
    image, drawn = image[rows, columns].astype(np.float64), labels[number][rows, columns]
    step = -(-max(image.shape) // LONGEST)
    if step > 1:  # means of the intensities, and the label in the middle, of step x step pixels
        height, width = (max(1, length // step) for length in image.shape)
        image = image[: height * step, : width * step]
        image = image.reshape(height, step, width, step).mean(axis=(1, 3))
        drawn = drawn[step // 2 :: step, step // 2 :: step][:height, :width]
    file = io.BytesIO()
    Image.fromarray(draw_borders(image, drawn)).save(file, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _with_margin(occupied: np.ndarray) -> slice:
    """Where an axis is occupied, with a margin; all of it if it is nowhere."""
    places = np.flatnonzero(occupied)
    if not len(places):
        return slice(None)
    margin = max(8, round(_MARGIN * (places[-1] - places[0])))
    return slice(max(0, places[0] - margin), places[-1] + 1 + margin)
