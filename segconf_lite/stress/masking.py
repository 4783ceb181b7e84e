"""Gradient masking: networks that only look robust because their gradient leads nowhere, and signs of it.

Athalye, Carlini & Wagner, "Obfuscated Gradients Give a False Sense of Security" (ICML 2018): an attack that
follows gradients says nothing about a network that hides them. Their signs of it are the rules of
`masking_report`. Shape letters: N cases, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.stress.attacks import (
    Bounds,
    case_loss,
    epsilon_per_image,
    fgsm,
    loss_gradient,
    pgd,
    random_noise,
)
from segconf_lite.stress.inputs import LARGEST, MOST, Images, of_type

TOLERANCE = (
    0.01  # fraction of the rise of the loss: two attacks that find the same optimum differ by rounding
)


class QuantisedInput(nn.Module):
    """A network that sees its image in a few intensity levels only; by itself no defence at all.

    Rounding has gradient 0 wherever it has one, so attacks along the gradient do not move.

    Args:
        network: Network that maps (N, channels, H, W) to logits (N, C, H, W); its weights are shared, not
            copied.
        levels: Number of intensity levels, >= 2.
        low, high: Lowest and highest level; intensities beyond become these.
        straight_through: Whether the gradient passes the rounding as if it were not there (BPDA, section 4.1
            of the paper). The logits are the same, so this is the surrogate that unmasks the other.

    Raises:
        ValueError: If the network is none, levels < 2, or low and high are not finite and in this order.

    Example:
        >>> QuantisedInput(nn.Identity(), levels=3, low=-1, high=1)(torch.tensor([-7.0, -0.3, 0.8]))
        tensor([-1.,  0.,  1.])
    """

    def __init__(
        self, network: nn.Module, *, levels: int, low: float, high: float, straight_through: bool = False
    ) -> None:
        super().__init__()
        self.network = of_type("network", network, nn.Module)
        self.straight_through = check.one_of("straight_through", straight_through, (True, False))
        self.levels = check.integer("levels", levels, low=2, high=MOST)
        self.low = check.number("low", low, low=-LARGEST)
        self.high = check.number("high", high, low=self.low, high=LARGEST, open_low=True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C, H, W) of images (N, channels, H, W) after rounding."""
        step = (self.high - self.low) / (self.levels - 1)
        rounded = self.low + step * ((images.clamp(self.low, self.high) - self.low) / step).round()
        if self.straight_through:
            # Not images + (rounded - images): float32 could miss the level by its last bit.
            rounded = rounded.detach() + (images - images.detach())
        return self.network(rounded)


def masking_report(
    network: nn.Module,
    images: Images,
    labels: Images,
    *,
    eps: float,
    unit: str | None = None,
    bounds: Bounds,
    generator: torch.Generator,
    surrogate: nn.Module | None = None,
    steps: Sequence[int] = (1, 5, 20),
    ignore: Images | None = None,
) -> pd.DataFrame:
    """Signs of gradient masking, one row per L-infinity attack: does a gradient attack say anything here?

    Attacks: none, random noise of the same norm, FGSM, PGD of more and more steps (each step at least a
    quarter of eps, and long enough to reach the edge of the ball), and PGD on the surrogate, evaluated on the
    network. By the mean loss over cases, an attack is suspicious if it is

    - FGSM, where the gradient is exactly zero in a case;
    - PGD that raises the loss by no more than noise changes it;
    - PGD that raises it less than an attack of fewer steps does;
    - a transferred attack that raises it more than the network's own gradient does.

    Args:
        network, images, labels, unit, bounds, ignore: `segconf_lite.stress.attacks` explains them.
        eps: Size of the allowed change in `unit`, > 0.
        generator: Random generator of the noise.
        surrogate: Another network for the same images, for example one trained alike, or the same with
            `QuantisedInput.straight_through`; None leaves its row out.
        steps: Numbers of steps of the PGD rows, >= 1 and rising.

    Returns:
        Columns: attack, loss (mean cross-entropy in nats), accuracy (fraction of right pixels, mean over
        cases), suspicious (bool), why (text, empty if not suspicious).

    Raises:
        ValueError: If an argument is invalid, or an image is constant and `unit` relative to it.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)  # above 0 is class 1
        >>> images, labels = torch.tensor([[[[0.4, -0.3]]]]), torch.tensor([[[1, 0]]])
        >>> masked = QuantisedInput(network, levels=5, low=-1, high=1)
        >>> report = masking_report(masked, images, labels, eps=0.1, unit="absolute", bounds=None,
        ...                         generator=torch.Generator().manual_seed(0), steps=(5,))
        >>> report[["attack", "suspicious"]].to_string(index=False, header=False).split()
        ['clean', 'False', 'random', 'noise', 'False', 'fgsm', 'True', 'pgd', '5', 'True']
    """
    eps = check.number("eps", eps, low=0, open_low=True, fix="attacks of no size do not differ")
    constant = int((epsilon_per_image(images, eps, unit="range") == 0).sum())
    if constant and unit in ("sd", "range"):
        got = f"{constant} of {len(images)} constant, for which {eps} {unit} is 0"
        raise check.refuse("images", "not constant", got, 'leave them out, or give eps in unit "absolute"')
    counts = [
        check.integer("steps", count, low=1, high=MOST)
        for count in check.array("steps", steps, "n_attacks").tolist()
    ]
    if sorted(set(counts)) != counts:
        raise check.refuse("steps", "rising", counts)
    size: dict[str, Any] = {"eps": eps, "unit": unit, "bounds": bounds}
    target: dict[str, Any] = {"labels": labels, "ignore": ignore}

    def attacked(by: nn.Module, count: int) -> Tensor:
        return pgd(by, images, **target, **size, steps=count, step_fraction=max(0.25, 1 / count)).images

    candidates: dict[str, Images] = {"clean": images}
    candidates["random noise"] = random_noise(images, norm="linf", generator=generator, **size).images
    candidates["fgsm"] = fgsm(network, images, **target, **size).images
    candidates |= {f"pgd {count}": attacked(network, count) for count in counts}
    if surrogate is not None:
        candidates["transfer"] = attacked(surrogate, counts[-1])
    report = pd.DataFrame({"attack": list(candidates)})
    report["loss"] = [float(case_loss(network, x, **target).mean()) for x in candidates.values()]
    report["accuracy"] = [
        1 - float(case_loss(network, x, measure="pixel_error", **target).mean()) for x in candidates.values()
    ]
    _, gradient = loss_gradient(network, images, **target)
    why = _reasons(report, (gradient == 0).flatten(1).all(dim=1))
    return report.assign(suspicious=[text != "" for text in why], why=why)


def _reasons(report: pd.DataFrame, vanished: Tensor) -> list[str]:
    """Text for each row of the report; vanished (N,) bool, cases whose gradient is 0."""
    rise = dict(zip(report["attack"], report["loss"] - report["loss"][0], strict=True))
    direct = [name for name in rise if name.startswith(("fgsm", "pgd"))]  # along the network's own gradient
    reasons = []
    for name in rise:
        why = []
        if name == "fgsm" and vanished.any():
            why.append(f"the gradient is exactly zero in {int(vanished.sum())} of {len(vanished)} cases")
        if name.startswith("pgd"):
            if rise[name] <= abs(rise["random noise"]):
                why.append("no better than random noise of the same norm")
            weaker = [other for other in direct[: direct.index(name)] if _beats(rise[other], rise[name])]
            if weaker:
                why.append(f"more steps, and yet weaker than {weaker[0]}")
        if name == "transfer" and _beats(rise[name], max(rise[other] for other in direct)):
            why.append("an attack on another network is stronger than the one along its own gradient")
        reasons.append("; ".join(why))
    return reasons


def _beats(rise: float, other: float) -> bool:
    return rise > other + TOLERANCE * abs(other)
