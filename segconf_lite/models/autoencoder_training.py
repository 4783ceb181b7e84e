"""Training of an autoencoder of activations beside a frozen network.

Shape letters: N cases, F features, h and w sides of an activation, H and W sides of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.batches import as_tensor
from segconf_lite.models.device import device_of, frozen, isolated_random_state
from segconf_lite.models.splice import Splice, splice
from segconf_lite.models.training import Settings, Training, optimise, shuffled_batches, train_and_validation

LOSSES = ("both", "segmentation", "reconstruction")
DIVERGENCE_WEIGHT = 1e-3  # of the variational variant, against L_seg + L_mse
CACHE_BYTES = 1_000_000_000  # beyond this, what the decoder needs and its logits are computed in every step


def fit_autoencoder(
    unet: nn.Module,
    cohort: Cohort,
    *,
    module: str = "bottleneck",
    validation: Cohort | None = None,
    loss: str = "both",
    code: int = 64,
    width: int = 48,
    depth: int = 2,
    variant: str = "plain",
    noise: float = 0.3,
    training: Training = Training(steps=200, learning_rate=2e-3, weight_decay=1e-4),  # noqa: B008  (frozen)
    progress: bool | None = None,
    **settings: Unpack[Settings],
) -> ActivationAutoencoder:
    """An autoencoder of one activation of a finished network, in eval mode.

    The network is frozen and in eval mode while it learns, and left as it was found. Its activations
    are computed once; gradients pass through the part behind `module` only.

    Args:
        unet: Network that maps images to logits.
        cohort: Cases that the network learned from, with as many channels as it takes; labels are not used.
        module: Module whose output is coded, a name of `segconf_lite.models.splice`.
        validation: Cases that choose the state to keep; None takes 15 % of the subjects off `cohort`.
        loss: ``"both"``, or ``"segmentation"`` or ``"reconstruction"`` alone.
        code: Numbers of the code, see `ActivationAutoencoder`; so are `width`, `depth`, `variant`, `noise`.
        width: Features of the first level.
        depth: Blocks per level.
        variant: ``"plain"``, ``"denoising"`` or ``"variational"``.
        noise: Standard deviation of the denoising variant's noise.
        training: Steps, batch size, learning rate, precision, seed and so on; without augmentation.
        progress: Whether to show a bar; None shows one in a terminal unless ``SEGCONF_QUIET`` is set.
        **settings: Single fields of `Training` that replace those of `training`.

    Returns:
        The autoencoder. Its ``history`` is that of `optimise`; the last entry also has ``L_seg`` and
        ``L_mse`` of the state that was kept, on the validation cases.

    Raises:
        ValueError: If an argument is out of its range.
        FloatingPointError: If a loss or a weight is no longer finite.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models.unet import UNet
        >>> cohort = phantom.cohort(12, size=16)
        >>> unet = UNet(n_classes=len(cohort.class_names), channels=(4, 8))
        >>> coder = fit_autoencoder(unet, cohort, steps=1)
        >>> sorted(set(coder.history[-1]) - {"seconds"})
        ['L_mse', 'L_seg', 'step', 'train_loss', 'validation_loss']
    """
    training = Training.changed(training, **settings)
    check.one_of("loss", loss, LOSSES)
    check.one_of("augmentation", training.augmentation, (None,))
    cohort, held_out_cohort = train_and_validation(cohort, validation, training.seed)
    device = device_of(unet)
    use_bf16 = training.uses_bf16(device)
    spliced = splice(unet, module)
    with frozen(unet), isolated_random_state(training.seed, device):
        with torch.no_grad():
            train, held_out = (_Activations(spliced, part, use_bf16) for part in (cohort, held_out_cohort))
        n_train = len(cohort)
        del cohort, held_out_cohort  # copies, and twice as much memory with their labels as without
        build = partial(
            ActivationAutoencoder, code=code, width=width, depth=depth, variant=variant, noise=noise
        )
        coder = build(shape=tuple(train.activations.shape[1:])).to(device)
        coder.set_scale(train.activations)

        def parts_of_loss(cases: _Activations, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            activation = cases.activations[index]  # (n, F, h, w)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=use_bf16):
                decoded, divergence = coder.reconstruct(activation)
            decoded = decoded.float()
            l_mse = (decoded - activation).square().mean()
            if loss == "reconstruction" and coder.training:
                return l_mse.new_zeros(()), l_mse, divergence  # the decoder is not needed
            rest, target = cases.rest_and_logits(index)
            l_seg = (cases.logits_of(decoded, rest) - target).square().mean()  # over (n, C, H, W)
            return l_seg, l_mse, divergence

        def loss_on(cases: _Activations, index: Tensor) -> Tensor:
            l_seg, l_mse, divergence = parts_of_loss(cases, index)
            main = {"both": l_seg + l_mse, "segmentation": l_seg, "reconstruction": l_mse}[loss]
            return main + DIVERGENCE_WEIGHT * divergence

        def mean_over_validation(of_cases: Callable[[_Activations, Tensor], Tensor]) -> Tensor:
            parts = torch.arange(len(held_out.activations)).split(64)
            values = [len(part) * of_cases(held_out, part) for part in parts]
            return torch.stack(values).sum(dim=0) / len(held_out.activations)

        generator = torch.Generator().manual_seed(training.seed)
        batches = shuffled_batches(n_train, training.batch_size, generator)
        train_loss, held_out_loss = partial(loss_on, train), lambda: float(mean_over_validation(loss_on))
        coder.history = optimise(coder, batches, train_loss, held_out_loss, training, progress=progress)
        with torch.no_grad():
            l_seg, l_mse = mean_over_validation(lambda *of: torch.stack(parts_of_loss(*of)[:2])).tolist()
        coder.history[-1] |= {"L_seg": l_seg, "L_mse": l_mse}
    return coder


class _Activations:
    """What the training reads of one cohort: activations, target logits, and what the decoder needs."""

    def __init__(self, spliced: Splice, cohort: Cohort, use_bf16: bool) -> None:
        self._spliced, self._use_bf16 = spliced, use_bf16
        self._images = as_tensor("images", cohort.images)
        activations, fits = [], True
        for index in torch.arange(len(cohort)).split(32):
            activation, rest = spliced.read(self._images[index])[1:]
            kept = [self.logits_of(activation, rest), *rest] if fits else []
            if not index[0]:  # logits and rest of all cases if they fit, in memory that is taken once
                fits = sum(tensor.nbytes for tensor in kept) * len(cohort) <= CACHE_BYTES * len(index)
                self._kept = [part.new_empty(len(cohort), *part.shape[1:]) for part in kept] if fits else []
            activations.append(activation.float())
            for whole, part in zip(self._kept, kept, strict=False):
                whole[index] = part
        self.activations = torch.cat(activations)

    def logits_of(self, activation: Tensor, rest: list[Tensor]) -> Tensor:
        """Logits from an activation, in the precision of the training."""
        with torch.autocast(activation.device.type, dtype=torch.bfloat16, enabled=self._use_bf16):
            return self._spliced.logits(activation, rest).float()

    def rest_and_logits(self, index: Tensor) -> tuple[list[Tensor], Tensor]:
        """What `Splice.logits` needs of these cases, and their logits; read from memory where they fit."""
        if self._kept:
            logits, *rest = (tensor[index] for tensor in self._kept)
            return rest, logits
        with torch.no_grad():
            rest = self._spliced.rest(self._images[index])
            return rest, self.logits_of(self.activations[index], rest)
