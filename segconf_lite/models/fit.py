"""Training of segmentation networks: the book's U-Net, or any network with any preparation of its batches.

Shape letters: B cases of a batch, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar, Unpack, cast

import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.augment import make_augmentation
from segconf_lite.models.case_reader import case_reader
from segconf_lite.models.cuda_graph import as_cuda_graph
from segconf_lite.models.device import isolated_random_state, pick_device
from segconf_lite.models.outputs import picked
from segconf_lite.models.training import Settings, Training, optimise, shuffled_batches, train_and_validation
from segconf_lite.models.unet import UNet

Network = TypeVar("Network", bound=nn.Module)
CUDA_GRAPHS = False  # not before benchmarks/training_step.py has measured them on a card

# (network, images (B, channels, H, W), labels (B, H, W), generator) -> images and labels to learn from
Prepare = Callable[[nn.Module, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def fit_unet(
    cohort: Cohort,
    *,
    validation: Cohort | None = None,
    channels: tuple[int, ...] = (16, 32, 64, 96),
    norm: str = "batch",
    skips: bool = True,
    dropout: float = 0.0,
    training: Training = Training(),  # noqa: B008  (frozen)
    device: str = "auto",
    progress: bool | None = None,
    **settings: Unpack[Settings],
) -> UNet:
    """A U-Net trained on one cohort, in eval mode, on the device it was trained on.

    The loss is Dice + cross-entropy. Dice is taken over the foreground classes of the whole batch, because a
    class that a single slice lacks would otherwise pull. Optimiser, schedule and the choice of the state are
    those of `segconf_lite.models.training.optimise`. The global random state of torch is the same before and
    after; equal seeds give equal networks on one CPU.

    Args:
        cohort: Training cases; each image normally z-scored, H and W divisible by ``2**levels``. The network
            takes as many channels as the images have, which may be any number.
        validation: In-distribution cases that choose the state to keep; None takes 15 % of the subjects off
            the cohort.
        channels: Features per level, see `UNet`.
        norm: ``"batch"``, ``"instance"`` or ``"group"``, see `UNet`.
        skips: Whether the network has skip connections, see `UNet`.
        dropout: Probability in [0, 1) around the bottleneck, see `UNet`.
        training: Steps, batch size, learning rate, precision, seed and so on.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        progress: Whether to show a bar; None shows one in a terminal unless ``SEGCONF_QUIET`` is set.
        **settings: Single fields of `Training` that replace those of `training`, such as ``steps=200``.

    Returns:
        The network. ``unet.history`` has one dictionary per check, see `optimise`.

    Raises:
        ValueError: If an argument is out of its range, the validation cohort has other classes, or there is a
            single subject and no validation cohort.
        FloatingPointError: If a loss or a weight is no longer finite.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> unet = fit_unet(phantom.cohort(12, size=16), channels=(4, 8), steps=2, device="cpu")
        >>> [row["step"] for row in unet.history]
        [1, 2]
    """
    check.instance("cohort", cohort, Cohort)
    n_classes, training = len(cohort.class_names), Training.changed(training, **settings)
    shape = {"n_classes": n_classes, "in_channels": cohort.images.shape[1], "channels": channels}
    build = partial(UNet, **shape, norm=norm, skips=skips, dropout=dropout)
    return fit_network(
        build, cohort, validation=validation, training=training, device=device, progress=progress
    )


def fit_network(
    build: Callable[[], Network],
    cohort: Cohort,
    *,
    prepare: Prepare | None = None,
    on_device: bool = False,
    validation: Cohort | None = None,
    training: Training = Training(steps=200, batch_size=8, precision="fp32"),  # noqa: B008  (frozen)
    device: str = "auto",
    progress: bool | None = None,
    **settings: Unpack[Settings],
) -> Network:
    """A network of any architecture trained on one cohort, in eval mode.

    Args:
        build: Makes the network, for images of as many channels as the cohort's; it is called with torch's
            random state at the seed.
        cohort: Training cases, of any number of channels.
        prepare: Changes each batch before the network sees it, validation batches too (with a generator that
            starts anew at each check, so that checks can be compared). None leaves batches as they are.
        on_device: Where `prepare` works. True: batch and generator are on the training's device, which spares
            a graphics card copies and waits; it draws other numbers there than on a CPU. False: on the CPU.
        validation: Cases that choose the state to keep; None takes 15 % of the subjects off.
        training: Steps, batch size, learning rate, precision, seed and so on. The augmentation comes before
            `prepare`, and does not change validation batches.
        device: Device name, as of `fit_unet`.
        progress: Whether to show a bar, as of `fit_unet`.
        **settings: Single fields of `Training` that replace those of `training`.

    Returns:
        The network with its ``history``.

    Raises:
        ValueError: If an argument is out of its range.
        FloatingPointError: If a loss or a weight is no longer finite.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> def double(network, images, labels, generator):
        ...     return 2 * images, labels
        >>> cohort = phantom.cohort(12, size=16)
        >>> build = lambda: UNet(n_classes=len(cohort.class_names), channels=(4, 8))
        >>> network = fit_network(build, cohort, prepare=double, steps=2, device="cpu")
        >>> len(network.history)
        2
    """
    training = Training.changed(training, **settings)
    seed = training.seed
    augment = make_augmentation(training.augmentation, seed)
    train, held_out = train_and_validation(cohort, validation, seed)
    here = pick_device(device)
    there = here if on_device else torch.device("cpu")
    read_held = case_reader(held_out, here if prepare is None else there)
    read_train = case_reader(train, "cpu" if augment else here if prepare is None else there)
    generator = torch.Generator(there).manual_seed(seed)
    dice_and_cross_entropy = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    with isolated_random_state(seed, here):
        network = build().to(here)
        use_bf16 = training.uses_bf16(here)
        loss_on = _LossOf(network, dice_and_cross_entropy, use_bf16)
        graphs: dict[tuple[torch.Size, ...], nn.Module] = {}

        def ready(cases: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
            if prepare is not None:
                cases = prepare(network, cases[0].to(there), cases[1].to(there), generator)
            return cases[0].to(here), cases[1].to(here)

        def training_loss(index: Tensor) -> Tensor:
            cases = augment(*read_train(index)) if augment else read_train(index)
            batch = ready(cases, generator)
            shapes = tuple(part.shape for part in batch)
            if _may_use_graphs(here) and not graphs:  # of the first batch's shape; others go without
                graphs[shapes] = as_cuda_graph(_LossOf(network, dice_and_cross_entropy, use_bf16), batch)
            return cast(Tensor, graphs.get(shapes, loss_on)(*batch))

        def validation_loss() -> float:
            parts, again = torch.arange(len(held_out)).split(64), torch.Generator(there).manual_seed(seed)
            losses = [len(part) * float(loss_on(*ready(read_held(part), again))) for part in parts]
            return sum(losses) / len(held_out)

        batches = shuffled_batches(len(train), training.batch_size, torch.Generator().manual_seed(seed))
        history = optimise(network, batches, training_loss, validation_loss, training, progress=progress)
    network.history = history  # type: ignore[assignment]
    return network


class _LossOf(nn.Module):
    """Network and loss in one, because a CUDA graph is made of a module."""

    def __init__(self, network: nn.Module, loss: nn.Module, use_bf16: bool) -> None:
        super().__init__()
        self.network, self.loss, self.use_bf16 = network, loss, use_bf16

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.use_bf16):
            logits = cast(Tensor, picked(self.network(images), images))
        return cast(Tensor, self.loss(logits.float(), labels[:, None]))


def _may_use_graphs(device: torch.device) -> bool:
    return CUDA_GRAPHS and device.type == "cuda" and device.index in (None, torch.cuda.current_device())
