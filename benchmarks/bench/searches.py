"""What the searches for other networks cost: per pixel, per image, and per slice.

    python benchmarks/bench/searches.py

The reference is one backward pass of the network over the penalty set, because every step of a search needs
one. A search for one pixel takes 60 such steps at least, and one for masks 6 per target.
"""

from __future__ import annotations

import numpy as np
import torch
from common import Act, Row, main, rows_of

from segconf_lite.cohorts import phantom
from segconf_lite.fragility import FragilityMap, MaskSearch, PixelSearch, TangentSearch, search_pixels
from segconf_lite.fragility.mask_search import penalty_set, search_masks
from segconf_lite.models import UNet

BACKWARD = "backward pass over 16 slices"


def searches(side: int, runs: int, memory: bool) -> list[Row]:
    train = phantom.cohort(16, size=side)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(n_classes=4).eval()
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels).long()
    penalty = penalty_set(unet, train, n_images=16)
    pixel = np.array([[0, side // 2, side // 2]])
    whole, last = PixelSearch(n_penalty=16), PixelSearch(modules=("head",), n_penalty=16)
    masks = MaskSearch(n_penalty=16)
    tangent = FragilityMap(search=TangentSearch(n_slices=8)).fit(unet, train)

    def backward() -> None:
        torch.nn.functional.cross_entropy(unet(images), labels).backward()
        unet.zero_grad()

    acts: dict[str, Act] = {
        BACKWARD: backward,
        "pixel search, whole network, a pixel": lambda: search_pixels(unet, images, pixel, train, whole),
        "pixel search, last layer, a pixel": lambda: search_pixels(unet, images, pixel, train, last),
        "mask search, an image": lambda: search_masks(unet, images[0], penalty, masks, budget=0.1),
        "decoder tangent, a slice": lambda: tangent.flip_cost(images[:1]),
    }
    n = side**2
    return rows_of(acts, size=f"{side} x {side}", n=n, runs=runs, reference=BACKWARD, memory=memory)


def measure(small: bool, runs: int) -> list[Row]:
    return [row for side in ((32,) if small else (32, 64, 96)) for row in searches(side, runs, side == 32)]


if __name__ == "__main__":
    main("What do the searches cost?", measure)
