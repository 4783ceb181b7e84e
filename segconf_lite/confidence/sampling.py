"""Disagreement of several predictions per image: dropout, ensembles, test-time augmentation.

Shape letters: S samples (predictions of one image), B cases, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from segconf_lite import check
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.confidence import pixels
from segconf_lite.confidence.pixels import PixelOptions, PixelUncertainty
from segconf_lite.models.batches import as_tensor, cases_from, checked_logits
from segconf_lite.models.device import bf16_pays, device_of, isolated_random_state
from segconf_lite.models.fit import fit_unet
from segconf_lite.models.store import fitted_each
from segconf_lite.models.taps import check_open
from segconf_lite.models.training import PRECISIONS, Training, as_settings
from segconf_lite.models.unet import UNet, predict_probabilities


class SampleSummary(NamedTuple):
    """What S predictions say together; maps are (B, H, W), higher = more uncertain.

    Entropies are divided by log C. ``entropy`` = ``expected_entropy`` + ``mutual_information``: the entropy
    of the mean prediction is the mean entropy of the predictions plus their disagreement (Houlsby et al.,
    2011; Depeweg et al., ICML 2018).

    Example:
        >>> SampleSummary._fields
        ('mean_probability', 'entropy', 'expected_entropy', 'mutual_information', 'disagreement')
    """

    mean_probability: Tensor  # (B, C, H, W)
    entropy: Tensor  # of the mean probability, in [0, 1]
    expected_entropy: Tensor  # mean over the predictions of their own entropy, in [0, 1]
    mutual_information: Tensor  # the difference of the two, in [0, 1]
    disagreement: Tensor  # fraction of predictions that differ from the most frequent class, in [0, 1)


MEASURES = SampleSummary._fields[1:]


def summarise_samples(samples: Tensor) -> SampleSummary:
    """Mean, entropies and disagreement of several predictions.

    Args:
        samples: Class probabilities (S, B, C, H, W).

    Raises:
        ValueError: If they are no probabilities of that shape.

    Example:
        >>> certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # two predictions of one pixel
        >>> summary = summarise_samples(certain.reshape(2, 1, 2, 1, 1))
        >>> [round(float(value), 2) for value in summary[1:]]
        [1.0, 0.0, 1.0, 0.5]
    """
    check.array("samples", samples, "S B C H W")
    samples = as_tensor("samples", samples, wide=True).cpu()
    mean = samples.mean(dim=0)
    # One sample at a time: what lies between is as large as all samples together.
    total, expected = pixels.entropy(mean), torch.stack([*map(pixels.entropy, samples)]).mean(dim=0)
    labels = samples.max(dim=2).indices  # (S, B, H, W); argmax itself is ten times slower here
    votes = torch.stack([(labels == k).sum(dim=0) for k in range(samples.shape[2])])  # (C, B, H, W)
    disagreement = 1 - votes.amax(dim=0) / len(samples)
    information = (total - expected).clamp(min=0)  # rounding may give -1e-8
    return SampleSummary(mean, total, expected, information, disagreement)


class SamplingOptions(PixelOptions, total=False):
    """Arguments of `SampledUncertainty`, for the methods that pass them on.

    Example:
        >>> sorted(set(SamplingOptions.__annotations__) - set(PixelOptions.__annotations__))
        ['measure', 'precision', 'seed']
    """

    measure: str
    seed: int
    precision: str


class SampledUncertainty(PixelUncertainty):
    """Base of the methods with several predictions per image; they differ in what they vary.

    Args:
        measure: Map to use: ``"entropy"`` of the mean, ``"expected_entropy"``, ``"mutual_information"`` or
            ``"disagreement"``, see `SampleSummary`.
        seed: Seed of whatever is random in the predictions; equal seeds give equal predictions.
        precision: ``"auto"`` runs the passes in bfloat16 where the hardware makes that faster (about
            twice on a CPU), ``"fp32"`` and ``"bf16"`` force it. Each pass loses digits that the spread
            of the predictions does not need: the ranks of cases agree to a Spearman of 0.99 (tested).
        **aggregation: The arguments of `PixelUncertainty`. Regions follow the mean prediction.

    Raises:
        ValueError: If an argument is not among its choices.

    Example:
        >>> SampledUncertainty(measure="mutual_information", seed=1).measure
        'mutual_information'
    """

    def __init__(
        self,
        *,
        measure: str = "entropy",
        seed: int = 0,
        precision: str = "auto",
        **aggregation: Unpack[PixelOptions],
    ) -> None:
        super().__init__(**aggregation)
        self.measure = check.one_of("measure", measure, MEASURES)
        self.seed = check.integer("seed", seed, low=0)
        self.precision = check.one_of("precision", precision, PRECISIONS)

    def samples(self, images: Tensor | np.ndarray) -> Iterator[Tensor]:
        """Class probabilities (S, b, C, H, W), batch by batch, so that memory stays bounded.

        Args:
            images: Images (B, channels, H, W), numpy or torch.

        Raises:
            ValueError: If the method is not fitted, or an image or a logit is not finite.
        """
        device, views = device_of(self.unet), self._views()
        bf16 = self.precision == "bf16" or (self.precision == "auto" and bf16_pays(device))
        for start, batch in self._batches(images):
            seed = int(np.random.SeedSequence([self.seed, start]).generate_state(1)[0])
            with (
                cases_from(start),
                isolated_random_state(seed, device),
                torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16),
            ):
                parts = [predict_probabilities(view, batch, batch_size=len(batch)) for view in views]
            classes = [part.shape[1] for part in parts]
            if len(set(classes)) > 1:
                raise check.refuse("the networks", "of one number of classes", classes)
            yield torch.stack(parts)

    def predictions(self, images: Tensor | np.ndarray) -> tuple[SampleSummary, Tensor]:
        """All maps of all cases, and the segmentation (B, S, H, W) int64 of each prediction, in one go.

        Args:
            images: Images (B, channels, H, W), numpy or torch.

        Raises:
            ValueError: If the method is not fitted, or an image or a logit is not finite.
        """
        batches = [(summarise_samples(batch), batch.max(dim=2).indices) for batch in self.samples(images)]
        columns = zip(*(summary for summary, _ in batches), strict=True)
        summary = SampleSummary(*(torch.cat(parts) for parts in columns))
        return summary, torch.cat([labels for _, labels in batches], dim=1).transpose(0, 1)

    def _maps(self, images: Tensor | np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.samples(images):
            summary = summarise_samples(batch)
            yield getattr(summary, self.measure), summary.mean_probability.max(dim=1).indices

    def _views(self) -> Sequence[nn.Module]:
        """One module per prediction, each from images to logits; run in eval mode, one after the other."""
        raise NotImplementedError


class MCDropout(SampledUncertainty):
    """Monte-Carlo dropout: the disagreement of one network with itself under dropout.

    Gal & Ghahramani, "Dropout as a Bayesian approximation" (ICML 2016). Only dropout modules are switched on.
    Norms stay in eval mode: in train mode they would take the statistics of the batch at hand, and change
    their running ones for good.

    Args:
        n_samples: Number of passes per case, >= 2.
        **options: The arguments of `SampledUncertainty`. The dropout masks are sampled per batch, so equal
            images in another order or batch size give other samples of the same distribution.

    Raises:
        ValueError: If ``n_samples < 2``; in `fit`, if the network has no dropout to switch on.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> unet = UNet(n_classes=4, channels=(4, 8), dropout=0.5)
        >>> method = MCDropout(n_samples=3, measure="mutual_information").fit(unet, cohort)
        >>> bool((method.uncertainty(cohort.images) > 0).all())
        True
    """

    def __init__(self, *, n_samples: int = 15, **options: Unpack[SamplingOptions]) -> None:
        super().__init__(**options)
        fix = "one prediction cannot disagree with itself"
        self.n_samples = self.n_passes = check.integer("n_samples", n_samples, low=2, fix=fix)

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Keep the network, if it has dropout. Returns the method itself.

        Args:
            unet: Network from images (B, channels, H, W) to logits (B, C, H, W).
            source_cohort: The cases that the network was trained on; nothing is learned from them.
        """
        device_of(unet)
        if not any(layer.p > 0 for layer in _dropout_layers(unet)):
            check_open(unet)
            fix = "without it every pass is equal: train with fit_unet(..., dropout=0.1), or use DeepEnsemble"
            raise check.refuse("the network", "one with a dropout layer of p > 0", "one without", fix)
        return super().fit(unet, source_cohort)

    def _views(self) -> Sequence[nn.Module]:
        return [_DropoutOn(self.unet)] * self.n_samples


class _DropoutOn(nn.Module):
    """A network whose dropout is active although the rest is in eval mode.

    The caller restores all modes afterwards, see `segconf_lite.models.predict_probabilities`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        for layer in _dropout_layers(self.network):
            layer.train()
        return self.network(images)


def _dropout_layers(network: nn.Module) -> list[_DropoutNd]:
    return [module for module in network.modules() if isinstance(module, _DropoutNd)]


class DeepEnsemble(SampledUncertainty):
    """Deep ensemble: the disagreement of networks with different seeds; the evaluated network is the first.

    Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep ensembles"
    (NeurIPS 2017).

    Args:
        n_members: Number of networks, >= 2; ``n_members - 1`` are trained in `fit`, through the store, so
            that a second call reads them.
        training: Arguments of `fit_unet` for the further members. They should be those of the evaluated
            network. ``"seed"`` there, 0 by default, is the seed of that network: the further ones have the
            seeds after it.
        validation: Validation cohort for `fit_unet`.
        members: Trained networks beside the evaluated one, instead of training; then `n_members` and
            `training` are not used.
        **options: The arguments of `SampledUncertainty`.

    Raises:
        ValueError: If there are fewer than two members; in `fit`, if members would be trained beside another
            network that is not our `UNet`.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> first, second = (UNet(n_classes=4, channels=(4, 8)) for _ in range(2))
        >>> method = DeepEnsemble(members=[second], measure="mutual_information").fit(first, cohort)
        >>> bool((method.uncertainty(cohort.images) > 0).all())
        True
    """

    def __init__(
        self,
        *,
        n_members: int = 5,
        training: Training | Mapping[str, Any] | None = None,
        validation: Cohort | None = None,
        members: Sequence[nn.Module] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> None:
        super().__init__(**options)
        if members is not None and not isinstance(members, list | tuple):
            got, fix = type(members).__name__, "e.g. members=[other]"
            raise check.refuse("members", "a list of networks", got, fix)
        if training is not None and not isinstance(training, Training | Mapping):
            expected = "a dictionary of arguments of fit_unet"
            raise check.refuse("training", expected, type(training).__name__)
        self._trained = list(members or [])
        for k, member in enumerate(self._trained):
            check.instance(f"members[{k}]", member, nn.Module)
            device_of(member)  # refuses parts on several devices
        n_members = check.integer("n_members", n_members)
        n_members = n_members if members is None else 1 + len(self._trained)
        fix = "one network cannot disagree with itself"
        self.n_members = self.n_passes = check.integer("n_members", n_members, low=2, fix=fix)
        self.training, self.validation = as_settings(training), validation
        self._others = self._trained

    def fit(self, unet: nn.Module, source_cohort: Cohort) -> Self:
        """Train (or read) the further members on the source cohort. Returns the method itself.

        Args:
            unet: The evaluated network.
            source_cohort: Its training cases, from which the further members learn.
        """
        device = device_of(unet)
        self._others = list(self._trained)
        if self.n_members > 1 + len(self._others) and not isinstance(unet, UNet):
            expected, got = "given beside a network that fit_unet did not make", type(unet).__name__
            fix = "train it again with other seeds: DeepEnsemble(members=[second, third])"
            raise check.refuse("members", expected, f"none beside {got}", fix)
        training = dict(self.training)
        own_seed = training["training"].seed if "training" in training else 0
        first_seed = check.integer("seed of training", training.pop("seed", own_seed), low=0)
        seeds = range(first_seed + 1 + len(self._others), first_seed + self.n_members)
        trained = fitted_each(fit_unet, source_cohort, seeds=seeds, validation=self.validation, **training)
        self._others += [member.to(device) for member in trained]
        return super().fit(unet, source_cohort)

    @property
    def members(self) -> list[nn.Module]:
        """All networks, the evaluated one first."""
        return [self.unet, *self._others]

    def _views(self) -> Sequence[nn.Module]:
        return self.members


_Change = Callable[[Tensor], Tensor]


def _same(values: Tensor) -> Tensor:
    return values


def _rotated(degrees: int) -> tuple[_Change, _Change]:
    quarters = degrees // 90
    return (lambda x: torch.rot90(x, quarters, (2, 3))), (lambda x: torch.rot90(x, -quarters, (2, 3)))


# name -> (change of the image, its exact inverse for the prediction). Intensities do not move borders.
TRANSFORMS: dict[str, tuple[_Change, _Change]] = {
    "identity": (_same, _same),
    "flip_rows": (lambda x: x.flip(2), lambda x: x.flip(2)),
    "flip_columns": (lambda x: x.flip(3), lambda x: x.flip(3)),
    "rotate_90": _rotated(90),
    "rotate_180": _rotated(180),
    "rotate_270": _rotated(270),
    # Images are z-scored, so these are tenths of their own standard deviation, or 20 % contrast.
    "brighter": (lambda x: x + 0.2, _same),
    "darker": (lambda x: x - 0.2, _same),
    "more_contrast": (lambda x: 1.2 * x, _same),
    "less_contrast": (lambda x: x / 1.2, _same),
}


class TestTimeAugmentation(SampledUncertainty):
    """Test-time augmentation: the disagreement of predictions for changed versions of an image.

    Wang et al., "Aleatoric uncertainty estimation with test-time augmentation for medical image segmentation
    with convolutional neural networks" (Neurocomputing 338, 2019). Each change is undone in the prediction.

    Args:
        transforms: Two or more names out of `TRANSFORMS`. All are undone exactly, without interpolation. The
            default changes intensities mildly, to which any network should be robust. Flips and rotations
            are only fair to a network that was trained with them, or for organs that look alike when
            rotated: the heart does not.
        **options: The arguments of `SampledUncertainty`. Nothing here is random.

    Raises:
        ValueError: If a transform is unknown or there are fewer than two; on use, if a quarter turn meets
            images that are not square.

    Example:
        >>> from segconf_lite.cohorts import phantom
        >>> from segconf_lite.models import UNet
        >>> cohort, _ = phantom.cohort(2, size=16), torch.manual_seed(0)
        >>> method = TestTimeAugmentation().fit(UNet(n_classes=4, channels=(4, 8)), cohort)
        >>> method.n_passes, method.uncertainty(cohort.images).shape
        (5, torch.Size([2]))
    """

    def __init__(
        self,
        *,
        transforms: Sequence[str] = ("identity", "brighter", "darker", "more_contrast", "less_contrast"),
        **options: Unpack[SamplingOptions],
    ) -> None:
        super().__init__(**options)
        chosen = check.names("transforms", transforms).tolist()
        if set(chosen) - set(TRANSFORMS) or len(chosen) < 2:
            raise check.refuse("transforms", f"two or more of {list(TRANSFORMS)}", chosen)
        self.transforms = tuple(chosen)
        self.n_passes = len(self.transforms)

    def _views(self) -> Sequence[nn.Module]:
        return [_Changed(self.unet, *TRANSFORMS[name]) for name in self.transforms]


TestTimeAugmentation.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for a test


class _Changed(nn.Module):
    """A network behind a change of its input, with the change undone in its output."""

    def __init__(self, network: nn.Module, change: _Change, undo: _Change) -> None:
        super().__init__()
        self.network, self.change, self.undo = network, change, undo

    def forward(self, images: Tensor) -> Tensor:
        changed = self.change(images)
        if changed.shape != images.shape:
            fix = "leave rotate_90 and rotate_270 out, or pad"
            raise check.refuse("images for quarter turns", "square", tuple(images.shape[2:]), fix)
        return self.undo(checked_logits(self.network(changed), changed, self.network))
