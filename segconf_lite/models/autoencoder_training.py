"""Training of an autoencoder of activations beside a frozen network."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import Tensor, nn

from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.device import bf16_pays, device_of, isolated_random_state
from segconf_lite.models.fit import VALIDATION_SHARE, optimise, shuffled_batches
from segconf_lite.models.splice import Splice, frozen, splice, weights_fingerprint
from segconf_lite.models.store import code_fingerprint, load_or_fit

__all__ = ["LOSSES", "fit_autoencoder", "stored_autoencoder"]

LOSSES = ("both", "segmentation", "reconstruction")
DIVERGENCE_WEIGHT = 1e-3  # of the variational variant, against L_seg + L_mse
CACHE_BYTES = 2_000_000_000  # beyond this, what the decoder needs is computed anew in every step


def fit_autoencoder(
    unet: nn.Module,
    cohort: Cohort,
    *,
    module: str = "bottleneck",
    validation: Cohort | None = None,
    loss: str = "both",
    steps: int = 200,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
    precision: str = "auto",
    progress: bool | None = None,
    **architecture: Any,
) -> ActivationAutoencoder:
    """An autoencoder of one activation of a finished network, in eval mode.

    The network is frozen and in eval mode while it learns, and left as it was found. Its activations
    are computed once; gradients pass through the part behind `module` only.

    Args:
        unet: maps images to logits.
        cohort: the cases that the network learned from; labels are not used.
        module: whose output is coded, see `segconf_lite.models.splice`.
        validation: cases that choose the state to keep; None takes 15 % of the subjects off `cohort`.
        loss: ``"both"``, or ``"segmentation"`` or ``"reconstruction"`` alone.
        steps, batch_size, learning_rate, weight_decay, seed, precision, progress: see `fit_unet`.
        **architecture: see `ActivationAutoencoder`, without ``shape``.

    Returns:
        The autoencoder. ``history`` as of `fit_unet`; its last entry also has ``L_seg`` and ``L_mse``
        of the state that was kept, on the validation cases.

    Raises:
        ValueError: If an argument is out of its range.
        FloatingPointError: If the loss is no longer finite.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {LOSSES}, got {loss!r}")
    if validation is None:
        cohort, validation = cohort.split((1 - VALIDATION_SHARE, VALIDATION_SHARE), seed=seed)
    place = device_of(unet)
    use_bf16 = precision == "bf16" or (precision == "auto" and bf16_pays(place))
    opened = splice(unet, module)

    def logits_of(activation: Tensor, rest: Any) -> Tensor:
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=use_bf16):
            return opened.logits(activation, rest).float()

    with frozen(unet), isolated_random_state(seed, place):
        with torch.no_grad():
            train, held_out = (_Material(opened, part, use_bf16) for part in (cohort, validation))
        coder = ActivationAutoencoder(shape=tuple(train.activations.shape[1:]), **architecture).to(place)
        coder.set_scale(train.activations)

        def halves(material: _Material, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            activation, target = material.activations[index], material.logits[index]
            with torch.autocast(place.type, dtype=torch.bfloat16, enabled=use_bf16):
                again, divergence = coder.reconstruct(activation)
            again = again.float()
            l_mse = (again - activation).square().mean()
            if loss == "reconstruction" and coder.training:
                return l_mse.new_zeros(()), l_mse, divergence  # the decoder is not needed
            return (logits_of(again, material.rest(index)) - target).square().mean(), l_mse, divergence

        def loss_on(material: _Material, index: Tensor) -> Tensor:
            l_seg, l_mse, divergence = halves(material, index)
            wanted = {"both": l_seg + l_mse, "segmentation": l_seg, "reconstruction": l_mse}[loss]
            return wanted + DIVERGENCE_WEIGHT * divergence

        def mean_over_validation(act: Any) -> Tensor:
            parts = torch.arange(len(held_out.activations)).split(64)
            values = [len(part) * torch.as_tensor(act(held_out, part)) for part in parts]
            return torch.stack(values).sum(dim=0) / len(held_out.activations)

        coder.history = optimise(
            coder,
            shuffled_batches(len(cohort), batch_size, torch.Generator().manual_seed(seed)),
            lambda index: loss_on(train, index),
            lambda: float(mean_over_validation(loss_on)),
            steps=steps, learning_rate=learning_rate, weight_decay=weight_decay, progress=progress,
        )  # fmt: skip
        with torch.no_grad():
            l_seg, l_mse = mean_over_validation(lambda *of: torch.stack(halves(*of)[:2])).tolist()
        coder.history[-1] |= {"L_seg": l_seg, "L_mse": l_mse}
    return coder


def stored_autoencoder(
    unet: nn.Module, cohort: Cohort, *, validation: Cohort | None = None, **training: Any
) -> ActivationAutoencoder:
    """`fit_autoencoder` through the store; a network with other weights has another autoencoder."""
    code = code_fingerprint(sys.modules[__name__], sys.modules[ActivationAutoencoder.__module__])
    config: dict[str, Any] = {**training, "network": weights_fingerprint(unet), "code": code}
    if validation is not None:
        config["validation"] = validation.fingerprint()
    fit = functools.partial(fit_autoencoder, unet, cohort, validation=validation, **training)
    coder = load_or_fit("autoencoder", config, cohort, fit)
    assert isinstance(coder, ActivationAutoencoder)
    return coder.to(device_of(unet))


class _Material:
    """What the training reads of one cohort: activations, target logits, and what the decoder needs."""

    def __init__(self, opened: Splice, cohort: Cohort, use_bf16: bool) -> None:
        self._opened, self._images = opened, torch.tensor(cohort.images)
        parts, rests = [], []
        for index in torch.arange(len(cohort)).split(32):
            activation, rest = opened.read(self._images[index])[1:]
            with torch.autocast(activation.device.type, dtype=torch.bfloat16, enabled=use_bf16):
                parts.append((activation, opened.logits(activation, rest).float()))
            rests.append(rest if isinstance(rest, list) else [rest])
        self.activations, self.logits = (torch.cat(part) for part in zip(*parts, strict=True))
        n_bytes = sum(share.numel() * share.element_size() for rest in rests for share in rest)
        self._is_list, self._rest = isinstance(rest, list), None
        if n_bytes <= CACHE_BYTES:
            self._rest = [torch.cat(shares) for shares in zip(*rests, strict=True)]

    def rest(self, index: Tensor) -> Any:
        """What `Splice.logits` needs of these cases, read from memory where it fits."""
        if self._rest is None:
            with torch.no_grad():
                return self._opened.rest(self._images[index])
        chosen = [share[index] for share in self._rest]
        return chosen if self._is_list else chosen[0]
