"""Sliding-window prediction, random crops, and the fraction of foreground in a window.

Images have any number of channels, for example three colours or several MR sequences. Slices or volumes: what
is written (N, channels, H, W) may be (N, channels, D, H, W) just as well. Shape letters: N cases, B cases of
a batch, C classes, D slices, H rows, W columns, h x w the window, K window positions.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.models.batches import checked_logits, enough_memory, network_input
from segconf_lite.models.device import device_of, frozen, kept_random_state
from segconf_lite.models.explained import explained
from segconf_lite.stress.inputs import MOST, Images, checked_generator, of_type

BLENDINGS = ("constant", "gaussian")
Sides = int | tuple[int, ...]


def window_probabilities(
    network: nn.Module,
    images: Images,
    *,
    window: Sides,
    overlap: float = 0.25,
    blending: str = "constant",
    batch_size: int = 32,
) -> Tensor:
    """Class probabilities of whole images by sliding-window inference: the network sees one window at a time.

    This is MONAI's `sliding_window_inference`, except that probabilities (softmax per window) are averaged
    instead of logits. Each pixel is therefore the mixture of what its windows predict and sums to 1, and no
    single window with huge logits decides alone. Where windows do not overlap both are the same.

    An image that is smaller than the window is padded with zeros on both sides, with a warning: zero is the
    mean intensity of z-scored images, but black in images of range [0, 1].

    Args:
        network: Network that maps (B, channels, h, w) to logits (B, C, h, w); in eval mode meanwhile, modes
            are restored.
        images: Images (N, channels, H, W) or volumes (N, channels, D, H, W), numpy or torch; as many channels
            as the network takes.
        window: Side of a square or cube in pixels, or one side per axis, >= 1.
        overlap: Fraction of a window that the next one covers again, in [0, 1). The step is
            ``max(1, int(window * (1 - overlap)))``, shorter at the far border, so every pixel is covered.
        blending: Weight of a window at its pixels: ``"constant"``, or ``"gaussian"`` with a standard
            deviation of 1/8 of the window, and at least 0.001, around the window's centre.
        batch_size: Windows per pass; it bounds the memory and does not change the result.

    Returns:
        Probabilities (N, C, H, W) float32 on the CPU; each pixel sums to 1 over C.

    Raises:
        ValueError: If an argument is invalid, or the network does not take windows with these channels, or
            does not return finite logits of the window's size.
        BatchTooLargeError: If the memory is too small. The message names a smaller batch size.

    Example:
        >>> network = nn.Conv2d(1, 2, 1, bias=False)
        >>> network.weight.data = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)  # bright is class 1
        >>> window_probabilities(network, np.array([[[[0.0, 1.0, 2.0]]]]), window=(1, 2))[0, 1]
        tensor([[0.5000, 0.7311, 0.8808]])
    """
    of_type("network", network, nn.Module)
    check.one_of("blending", blending, BLENDINGS)
    batch_size = check.integer("batch_size", batch_size, low=1)
    check.image_batch(images, channels=None, axes=3 if getattr(images, "ndim", 4) == 5 else 2)
    size = tuple(int(side) for side in images.shape[2:])
    sides, overlap = _sides("window", window, len(size)), _checked_overlap(overlap)
    if _padded(size, sides) != size:
        warnings.warn(
            f"the window {sides} is larger than the images {size}: they are padded with zeros to "
            f"{_padded(size, sides)}, and the network decides from padding, too",
            UserWarning,
            stacklevel=2,
        )
    inputs = network_input(
        images, network
    ).float()  # in half precision, the sum over windows would not stay 1

    def probabilities(windows: Tensor) -> Tensor:
        # Windows overlap: the network gets a copy, so that none is changed in place.
        with explained(network, windows), enough_memory(batch_size, network, "no images"):
            logits = checked_logits(network(network_input(windows, network)), windows)
        return logits.float().softmax(dim=1)

    with frozen(network), torch.no_grad(), kept_random_state(device_of(network)):
        mixed = sliding_window_inference(
            inputs, sides, batch_size, probabilities, overlap=overlap, mode=blending, padding_mode="constant"
        )
    return mixed.float().cpu()


def window_starts(size: Sides, window: Sides, *, overlap: float = 0.25) -> np.ndarray:
    """First (top left) pixels of the windows of `window_probabilities`, row by row.

    Args:
        size: (H, W) or (D, H, W) of the image in pixels, or the side of a square. Where the window is
            larger, the image counts as padded to the window.
        window: Side of the window in pixels, or one side per axis, >= 1.
        overlap: Fraction of a window that the next one covers again, in [0, 1).

    Returns:
        (K, 2) int64, row and column, or (K, 3) of a volume, >= 0; together the windows cover every pixel.

    Raises:
        ValueError: If a side or the overlap is out of its range.

    Example:
        >>> window_starts((4, 6), 4, overlap=0.5).tolist()
        [[0, 0], [0, 2]]
    """
    axes = next((len(sides) for sides in (size, window) if isinstance(sides, tuple | list)), 2)
    sides, overlap = _sides("window", window, axes), _checked_overlap(overlap)
    steps = [max(1, int(side * (1 - overlap))) for side in sides]
    cuts = dense_patch_slices(_padded(_sides("size", size, axes), sides), sides, steps)
    return np.array([[along.start for along in cut] for cut in cuts], dtype=np.int64)


def foreground_ratio(labels: Images, *, window: Sides | None = None, overlap: float = 0.25) -> np.ndarray:
    """Fraction of foreground pixels that a network meets, per image or per window.

    Args:
        labels: Labels (N, H, W) or (N, D, H, W), integers >= 0; > 0 is foreground.
        window: None for whole images, else as in `window_probabilities`; an image smaller than the window
            is padded with background, as it is there.
        overlap: Fraction of a window that the next one covers again, in [0, 1).

    Returns:
        float64 in [0, 1]: (N,) per image, or (N, K) per window, in the order of `window_starts`.

    Raises:
        ValueError: If the labels, the window or the overlap are invalid.

    Example:
        >>> foreground_ratio(np.array([[[1, 1, 0, 0]]]), window=(1, 2), overlap=0.0)
        array([[1., 0.]])
    """
    shape = "N D H W" if getattr(labels, "ndim", 3) == 4 else "N H W"
    foreground = check.label_map("labels", labels, shape=shape) > 0
    axes = tuple(range(1, foreground.ndim))
    if window is None:
        return foreground.mean(axis=axes)
    size, sides = foreground.shape[1:], _sides("window", window, len(axes))
    starts = window_starts(size, sides, overlap=overlap)
    missing = [after - before for before, after in zip(size, _padded(size, sides), strict=True)]
    foreground = np.pad(foreground, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    cuts = [tuple(slice(s, s + side) for s, side in zip(start, sides, strict=True)) for start in starts]
    return np.stack([foreground[:, *cut].mean(axis=axes) for cut in cuts], axis=1)


def crop_around(
    images: Tensor,
    labels: Tensor,
    window: int,
    *,
    generator: torch.Generator,
    foreground_fraction: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """One random square (or cubic) crop of each case, centred on foreground with a given probability.

    This is what MONAI's `RandCropByPosNegLabel` does, for a whole batch at once: a random foreground pixel,
    or else a random background pixel, becomes the centre, and a window that would stick out is moved inside.
    A case without foreground (or background) is cropped around what it has. The values are not looked at,
    because on a GPU that would stop each training step.

    Args:
        images: Images (B, channels, H, W) or volumes (B, channels, D, H, W), of any type, on any device.
        labels: Labels (B, H, W) or (B, D, H, W), integers on the same device, > 0 is foreground.
        window: Side w of the crop in pixels, from 1 to the shortest side of the images.
        generator: Random generator on the device of `labels`; the source of all chance.
        foreground_fraction: Probability of a foreground centre, in [0, 1].

    Returns:
        Crops (B, channels, w, w) of the images and (B, w, w) of the labels, at the same positions; with a
        third w for volumes.

    Raises:
        ValueError: If an argument is invalid, or shapes or devices do not match.

    Example:
        >>> labels = torch.zeros(1, 5, 5, dtype=torch.long)
        >>> labels[0, 4, 0] = 1
        >>> generator = torch.Generator().manual_seed(0)
        >>> _, cropped = crop_around(labels[:, None], labels, 2, generator=generator, foreground_fraction=1)
        >>> cropped.tolist()
        [[[0, 0], [1, 0]]]
    """
    for name, values in (("images", images), ("labels", labels)):
        layout = of_type(name, values, Tensor, "e.g. torch.from_numpy(...)").layout
        if layout != torch.strided:
            raise check.refuse(name, "a dense tensor", layout)
    size, device = labels.shape[1:], labels.device
    fits = images.ndim in (4, 5) and (len(images), *images.shape[2:]) == labels.shape
    if not fits or 0 in images.shape:
        expected = "non-empty (B, channels, H, W) and (B, H, W), or both with a D before H"
        raise check.refuse("images and labels", expected, f"{(*images.shape,)} and {(*labels.shape,)}")
    if labels.is_floating_point() or labels.is_complex():
        raise check.refuse("labels", "integers", labels.dtype, "use labels.long()")
    if images.device != device or checked_generator(generator).device.type != device.type:
        got = f"{images.device}, {device} and {generator.device}"
        raise check.refuse("images, labels and generator", "on one device", got)
    window = check.integer("window", window, low=1, high=min(size), fix="it must fit into the images")
    foreground_fraction = check.between("foreground_fraction", foreground_fraction)
    on_foreground = torch.rand(len(labels), generator=generator, device=device) < foreground_fraction
    foreground = labels.flatten(1) > 0  # (B, H * W)
    eligible = foreground == on_foreground[:, None]
    eligible |= ~eligible.any(dim=1, keepdim=True)  # nothing of that kind: any pixel
    centre = _draw_one(eligible, generator)  # (B,) index into the flattened image
    # Indices, not slices, and plain numbers: slices need the corners on the host, and would wait for a card.
    cut: list[Tensor] = []
    for axis in reversed(range(len(size))):
        corner = (centre % size[axis] - window // 2).clamp(0, size[axis] - window)
        along = corner[:, None] + torch.arange(window, device=device)  # (B, w)
        cut.insert(0, along.view(-1, *[window if other == axis else 1 for other in range(len(size))]))
        centre = centre // size[axis]
    cut.insert(0, torch.arange(len(labels), device=device).view(-1, *[1] * len(size)))
    channel = torch.arange(images.shape[1], device=device).view(1, -1, *[1] * len(size))
    case, *places = (index[:, None] for index in cut)
    return images[(case, channel, *places)], labels[tuple(cut)]


def _draw_one(eligible: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) index of one true value in each row, all equally likely."""
    if eligible.shape[1] < 2**24:
        # What torch.multinomial does with one draw, without its checks, which wait for the card.
        times = torch.empty(eligible.shape, device=eligible.device).exponential_(generator=generator)
        return (eligible / times).argmax(dim=1)
    rows = [row.nonzero()[:, 0] for row in eligible]
    picks = [torch.randint(len(row), (), generator=generator, device=row.device) for row in rows]
    return torch.stack([row[pick] for row, pick in zip(rows, picks, strict=True)])


def _checked_overlap(overlap: float) -> float:
    return check.number("overlap", overlap, low=0, high=1, open_high=True, fix="at 1 no window would move")


def _sides(name: str, value: Sides, axes: int) -> tuple[int, ...]:
    sides = tuple(value) if isinstance(value, tuple | list) else (value,) * axes
    if len(sides) != axes:
        raise check.refuse(name, f"a side in pixels, or one for each of {axes} axes", value)
    return tuple(check.integer(name, side, low=1, high=MOST, fix="sides are in pixels") for side in sides)


def _padded(size: tuple[int, ...], window: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(pair) for pair in zip(size, window, strict=True))
