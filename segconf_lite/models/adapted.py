"""Any segmentation network as one from images to logits, which is what every method takes.

Shape letters: N cases, C classes, H rows, W columns; volumes have an axis D before H.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from segconf_lite import check
from segconf_lite.models.batches import network_input
from segconf_lite.models.device import device_of
from segconf_lite.models.outputs import are_probabilities, coarse_logits, logits_in, named_outputs, picked

KINDS = ("auto", "logits", "probabilities", "sigmoid", "upsampled")
NORMALISATIONS = (None, "zscore", "range")


def adapt(
    network: nn.Module,
    output: str | int = "auto",
    *,
    normalise: str | tuple[Any, Any] | None = None,
    pad_to: int = 1,
    channels: Sequence[int] | None = None,
) -> Adapted:
    """A module from images to logits around any segmentation network.

    The methods take a tuple, list or dictionary of outputs as it is, if exactly one of them can be the logits
    (`segconf_lite.models.outputs.picked`). Otherwise they refuse the network, and their message names the
    call of this function that helps.

    Args:
        network: Any module. It is wrapped, not copied; the names of its modules get the prefix ``network.``.
        output: What the network returns. ``"auto"`` and ``"logits"``: logits, alone or among other outputs.
            ``"probabilities"``: values after a softmax, or of a single channel after a sigmoid.
            ``"sigmoid"``: a single channel z *before* the sigmoid, which becomes the logits -z/2 and z/2 of
            two classes. ``"upsampled"``: logits at a whole fraction of the images' resolution, as those of
            SegFormer, which are interpolated linearly to the size of the images. Any other text or number:
            that key of a dictionary, that entry of a list, or that prediction of a stack (N, K, C, H, W). If
            it holds no logits either, adapt the result again.
        normalise: What the network does not do itself. None leaves the images; ``"zscore"`` subtracts the
            mean of each case and channel and divides by its standard deviation; ``"range"`` maps each to
            [0, 1]; of a pair, numbers or one per channel, the first is subtracted and the second divides.
        pad_to: Sides are padded at their ends, with the border's values, to a multiple of this number of
            pixels, >= 1, and the logits are cropped again.
        channels: For each channel that the network takes, the index of the channel of the images, e.g.
            ``(0, 0, 0)`` for a network of colour images and grey ones. None leaves them.

    Returns:
        An ordinary module with logits (N, C, H, W), C >= 2, from images (N, channels, H, W). Their number of
        channels is that of the network, or with `channels`, any that has these indices.

    Raises:
        ValueError: If an argument is out of its range; in a pass, if the outputs are not what `output` says.

    Example:
        >>> one = adapt(nn.Conv2d(3, 1, 2, stride=2), "sigmoid", pad_to=2, channels=(0, 0, 0))
        >>> both = adapt(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Softmax(dim=1)), "probabilities")
        >>> both(torch.zeros(4, 1, 7, 9)).shape
        torch.Size([4, 2, 7, 9])
    """
    return Adapted(network, output, normalise, pad_to, channels)


class Adapted(nn.Module):
    """What `adapt` returns; see there.

    Attributes:
        network: The wrapped network.

    Example:
        >>> sum(p.numel() for p in adapt(nn.Conv2d(1, 2, 1), "logits").network.parameters())
        4
    """

    def __init__(
        self, network: nn.Module, output: str | int, normalise: Any, pad_to: int, channels: Any
    ) -> None:
        super().__init__()
        device_of(network)  # refuses what is no module
        if not isinstance(output, str | int) or isinstance(output, bool):
            expected = f"one of {KINDS}, or the key or index of an output"
            raise check.refuse("output", expected, repr(output))
        self.network, self.output = network, output
        self.normalise: Any = normalise
        if isinstance(normalise, tuple | list):
            mean, sd = (check.array("normalise", np.atleast_1d(part), "n") for part in normalise)
            if not (sd > 0).all() or not np.isfinite([*mean, *sd]).all():
                raise check.refuse("normalise", "(mean, standard deviation > 0)", normalise)
            self.normalise = [mean.tolist(), sd.tolist()]
        else:
            check.one_of("normalise", normalise, NORMALISATIONS)
        self.pad_to = check.integer("pad_to", pad_to, low=1)
        self.channels: tuple[int, ...] | None = None
        if channels is not None:
            listed = check.array("channels", channels, "n", fix="e.g. channels=(0, 0, 0)")
            self.channels = tuple(check.integer("channels", index, low=0) for index in listed)

    def forward(self, images: Tensor | np.ndarray) -> Tensor:
        """Logits (N, C, H, W) of images (N, channels, H, W)."""
        inputs = network_input(images, self, copy=False)
        if self.channels is not None:
            if max(self.channels) >= inputs.shape[1]:
                raise check.refuse("channels", f"below the {inputs.shape[1]} of the images", self.channels)
            inputs = inputs[:, list(self.channels)]
        inputs, sides = self._normalised(inputs), tuple(inputs.shape[2:])
        ends = [end for side in reversed(sides) for end in (0, -side % self.pad_to)]
        if any(ends):
            inputs = functional.pad(inputs, ends, mode="replicate")
        logits = self._logits(self.network(inputs), inputs)
        if any(ends) and isinstance(logits, Tensor) and logits.shape[2:] == inputs.shape[2:]:
            for axis, side in enumerate(sides, start=2):
                logits = logits.narrow(axis, 0, side)
        return logits

    def _normalised(self, images: Tensor) -> Tensor:
        axes = tuple(range(2, images.ndim))
        if self.normalise is None:
            return images
        if self.normalise == "range":
            low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
        elif self.normalise == "zscore":
            low = images.mean(axes, keepdim=True)
            high = low + images.std(axes, keepdim=True, correction=0)
        else:
            mean, sd = (images.new_tensor(n).reshape(1, -1, *(1 for _ in axes)) for n in self.normalise)
            return (images - mean) / sd
        return (images - low) / (high - low).clamp(min=torch.finfo(images.dtype).eps)

    def _logits(self, outputs: object, inputs: Tensor) -> Tensor:
        if self.output not in KINDS:
            return self._chosen(outputs)
        if self.output == "upsampled" and (coarse := coarse_logits(outputs, inputs)) is not None:
            mode = {4: "bilinear", 5: "trilinear"}[inputs.ndim]
            return functional.interpolate(coarse, size=inputs.shape[2:], mode=mode, align_corners=False)
        found, like = picked(outputs, inputs), (len(inputs), *inputs.shape[2:])
        fits = isinstance(found, Tensor) and (len(found), *found.shape[2:]) == like
        if self.output in ("auto", "logits", "upsampled") or not isinstance(found, Tensor) or not fits:
            return logits_in(outputs, inputs)  # refuses what does not fit
        name = f"the network's output, adapted as {self.output!r},"
        one, bounded = found.shape[1] == 1, are_probabilities(found)
        if self.output == "probabilities":
            if not bounded:
                got, fix = "other values", f'write adapt(network, output="{"sigmoid" if one else "logits"}")'
                raise check.refuse(name, "in [0, 1], with sum 1 over the classes", got, fix)
            found = torch.cat([1 - found, found], dim=1) if one else found
            return found.float().clamp(min=torch.finfo(torch.float32).tiny).log()
        if not one:
            fix = "classes that overlap are no single segmentation: return one channel of them"
            raise check.refuse(name, "a single channel", tuple(found.shape), fix)
        if bounded:
            fix = 'a sigmoid was applied already: write adapt(network, output="probabilities")'
            raise check.refuse(name, "a channel before the sigmoid", "values in [0, 1] only", fix)
        return torch.cat([-found / 2, found / 2], dim=1)

    def _chosen(self, outputs: object) -> Any:
        """The output of that key or index, as it is: what it must be is checked where it is used."""
        if isinstance(outputs, Tensor) and isinstance(self.output, int) and outputs.ndim > 4:
            return outputs[:, self.output]
        there = named_outputs(outputs)
        if self.output not in there:
            got = list(there) or type(outputs).__name__
            raise check.refuse("output", f"{self.output!r}, which the network must return", got)
        return there[self.output]
