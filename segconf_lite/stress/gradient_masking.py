"""Networks that only look robust, since their gradient leads nowhere, and a report that tells them apart.

Athalye, Carlini & Wagner, "Obfuscated Gradients Give a False Sense of Security" (ICML 2018): an attack that
follows gradients says nothing about a network that hides them. Their signs of it are the rules below. Shape
letters: N cases, C classes, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from segconf_lite.stress._reach import Bounds, Images, epsilon_per_image
from segconf_lite.stress.attacks import case_loss, fgsm, loss_gradient, pgd, random_noise

__all__ = ["QuantisedInput", "masking_report"]

TOLERANCE = 0.01  # of the rise of the loss: two attacks that find the same optimum differ by rounding


class QuantisedInput(nn.Module):
    """A network that sees its image in a few grey levels only; by itself no defence at all.

    Rounding has gradient 0 wherever it has one, so attacks along the gradient stand still.

    Args:
        network: maps (N, 1, H, W) to logits (N, C, H, W); its weights are shared, not copied.
        levels: number of grey levels, >= 2.
        low, high: the lowest and the highest of them; grey values beyond become these.
        straight_through: let the gradient pass the rounding as if it were not there (BPDA, section 4.1
            there). The logits are the same, so this is the surrogate that unmasks the other.

    Raises:
        ValueError: If levels < 2, or low and high are not finite and in this order.
    """

    def __init__(
        self, network: nn.Module, *, levels: int, low: float, high: float, straight_through: bool = False
    ) -> None:
        super().__init__()
        if levels < 2 or levels != int(levels):
            raise ValueError(f"levels must be a whole number >= 2, got {levels}")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"expected finite low < high, got {low} and {high}")
        self.network, self.levels, self.low, self.high = network, levels, low, high
        self.straight_through = straight_through

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C, H, W) of images (N, 1, H, W) after rounding."""
        step = (self.high - self.low) / (self.levels - 1)
        rounded = self.low + step * ((images.clamp(self.low, self.high) - self.low) / step).round()
        if self.straight_through:
            # Not images + (rounded - images): float32 could miss the level by its last bit.
            rounded = rounded.detach() + (images - images.detach())
        return self.network(rounded)


def masking_report(
    network: nn.Module, images: Images, labels: Images, *, eps: float,
    unit: str | None = None, bounds: Bounds,
    generator: torch.Generator, surrogate: nn.Module | None = None, steps: Sequence[int] = (1, 5, 20),
    ignore: Images | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Does what gradient attacks find mean anything for this network? One row per attack, L-infinity.

    Attacks: none, random noise of the same norm, FGSM, PGD of more and more steps (each as long as the way to
    the edge demands, a quarter of eps at least), and PGD on the surrogate, judged on the network. Suspicious
    is, by the mean loss over cases:

    - FGSM, where the gradient is exactly zero in a case;
    - PGD that raises the loss by no more than noise changes it;
    - PGD that raises it less than an attack of fewer steps does;
    - a transferred attack that raises it more than the network's own gradient does.

    Args:
        network, images, labels, eps, unit, bounds, ignore: see `segconf_lite.stress.attacks`; eps > 0.
        generator: of the noise.
        surrogate: another network for the same images, e.g. one trained alike, or the same with
            `QuantisedInput.straight_through`; None leaves its row out.
        steps: of each PGD row, >= 1, rising.

    Returns:
        Columns: attack, loss (mean cross-entropy), accuracy (share of right pixels, mean over cases),
        suspicious (bool), why (text, empty if not suspicious).

    Raises:
        ValueError: If an argument is not as above, or an image is constant and `unit` relative to it.
    """
    if not eps > 0:
        raise ValueError(f"eps must be > 0, got {eps}: attacks of no size do not differ")
    still = int((epsilon_per_image(images, eps, unit="range") == 0).sum())
    if still and unit in ("sd", "range"):
        raise ValueError(
            f"{still} of {len(images)} images are constant, and {eps} {unit} of them is 0: no attack there; "
            'leave them out, or give eps in unit "absolute"'
        )
    steps = [int(count) for count in steps]
    if not steps or min(steps) < 1 or sorted(set(steps)) != list(steps):
        raise ValueError(f"steps must be rising and >= 1, got {tuple(steps)}")
    size: dict[str, Any] = {"eps": eps, "unit": unit, "bounds": bounds}
    aim: dict[str, Any] = {"labels": labels, "ignore": ignore}
    found = {
        "clean": images,
        "random noise": random_noise(images, norm="linf", generator=generator, **size).images,
        "fgsm": fgsm(network, images, **aim, **size).images,
    }  # fmt: skip
    for count in steps:
        found[f"pgd {count}"] = _pgd(network, images, aim, size, count)
    if surrogate is not None:
        found["transfer"] = _pgd(surrogate, images, aim, size, steps[-1])
    rows = [
        {
            "attack": name,
            "loss": float(case_loss(network, moved, **aim).mean()),
            "accuracy": 1 - float(case_loss(network, moved, measure="pixel_error", **aim).mean()),
        }
        for name, moved in found.items()
    ]
    _, gradient = loss_gradient(network, images, **aim)
    report = pd.DataFrame(rows)
    report["why"] = _reasons(report, (gradient == 0).flatten(1).all(dim=1))
    report["suspicious"] = report["why"] != ""
    return report[["attack", "loss", "accuracy", "suspicious", "why"]]


def _pgd(network: nn.Module, images: Images, aim: dict, size: dict, steps: int) -> Tensor:
    return pgd(network, images, **aim, **size, steps=steps, step_share=max(0.25, 1 / steps)).images


def _reasons(report: pd.DataFrame, vanished: Tensor) -> list[str]:
    """Text for each row of the report; vanished (N,) bool, cases whose gradient is 0."""
    rise = dict(zip(report["attack"], report["loss"] - report["loss"][0], strict=True))
    own = [name for name in rise if name.startswith(("fgsm", "pgd"))]
    reasons = []
    for name in rise:
        why = []
        if name == "fgsm" and vanished.any():
            why.append(f"the gradient is exactly zero in {int(vanished.sum())} of {len(vanished)} cases")
        if name.startswith("pgd"):
            if rise[name] <= abs(rise["random noise"]):
                why.append("no better than random noise of the same norm")
            weaker = [other for other in own[: own.index(name)] if _beats(rise[other], rise[name])]
            if weaker:
                why.append(f"more steps, and yet weaker than {weaker[0]}")
        if name == "transfer" and _beats(rise[name], max(rise[other] for other in own)):
            why.append("an attack on another network is stronger than the one along its own gradient")
        reasons.append("; ".join(why))
    return reasons


def _beats(rise: float, other: float) -> bool:
    return rise > other + TOLERANCE * abs(other)
