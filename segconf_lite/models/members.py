"""U-Nets that differ in their seed only, several processes training them side by side.

Chapters that run at the same time need the same five networks. If each asked for them one by one, one would
train while the other waits for it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, cast

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.fit import fit_unet
from segconf_lite.models.store import load_or_fit
from segconf_lite.models.unet import UNet

__all__ = ["stored_unets"]


def stored_unets(
    cohort: Cohort, *, seeds: Iterable[int], validation: Cohort | None = None, **training: Any
) -> list[UNet]:
    """A U-Net for each seed, in this order, read from the store or trained into it.

    What another process is training at the moment is left to it, and those that nobody trains come first.

    Args:
        cohort: training cases.
        seeds: of `segconf_lite.models.fit_unet`, whole numbers.
        validation: see there.
        **training: its further arguments, equal for all.

    Returns:
        Networks in eval mode; each is the one of ``load_or_fit("unet", {**training, "seed": seed}, ...)``.

    Raises:
        ValueError: If an argument of the training is out of its range.
    """
    held_out = {} if validation is None else {"validation": validation.fingerprint()}
    wanted, found = list(seeds), dict[int, UNet]()
    for wait in (False, True):
        for seed in wanted:
            if seed in found:
                continue
            options = {**training, "seed": seed}
            fit = functools.partial(fit_unet, cohort, validation=validation, **options)
            try:
                network = load_or_fit(
                    "unet",
                    {**options, **held_out},
                    cohort,
                    fit,
                    wait=wait,
                    device=options.get("device", "auto"),
                )
            except TimeoutError:
                continue
            found[seed] = cast(UNet, network)
    return [found[seed] for seed in wanted]
