"""How far to trust a segmentation: one method, one class, one interface.

Every method has ``fit(unet, source_cohort)``, which returns the method itself, and
``uncertainty(images)``, (B,), higher = trust less. Methods that know pixels also have
``uncertainty_map(images)``, (B, H, W); those that predict a quality have
``predicted_quality(images)``, (B,) in [0, 1], higher = better. ``n_passes`` says what a case costs, in
passes of the network. No method changes the network, its modes, or torch's random state.

Devices: a method computes where the network lies; images come from anywhere and are never changed; what a
method returns is on the CPU. After the network has been moved to another device, methods that learned
something beside it have to be fitted again.

Importing this package loads neither torch nor monai; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segconf_lite import _lazy

if TYPE_CHECKING:
    from segconf_lite.confidence.agreement import ScoreAgreement
    from segconf_lite.confidence.distortion import SegmentationDistortion
    from segconf_lite.confidence.dropout import MCDropout
    from segconf_lite.confidence.ensemble import DeepEnsemble
    from segconf_lite.confidence.entropy import MaximumProbability, PredictiveEntropy, ProbabilityMargin
    from segconf_lite.confidence.mahalanobis import LatentMahalanobis, PooledMahalanobis
    from segconf_lite.confidence.prediction import BetaQualityPredictor, QualityPredictor
    from segconf_lite.confidence.test_time import TestTimeAugmentation

__all__ = [
    "BetaQualityPredictor", "DeepEnsemble", "FragilityMap", "LatentMahalanobis", "MCDropout",
    "MaximumProbability", "PooledMahalanobis", "PredictiveEntropy", "ProbabilityMargin",
    "QualityPredictor", "ScoreAgreement", "SegmentationDistortion", "TestTimeAugmentation",
]  # fmt: skip

_HOME = {
    "BetaQualityPredictor": "prediction",
    "DeepEnsemble": "ensemble",
    "FragilityMap": ".fragility.maps",  # a room of its own
    "LatentMahalanobis": "mahalanobis",
    "MCDropout": "dropout",
    "MaximumProbability": "entropy",
    "PooledMahalanobis": "mahalanobis",
    "PredictiveEntropy": "entropy",
    "ProbabilityMargin": "entropy",
    "QualityPredictor": "prediction",
    "ScoreAgreement": "agreement",
    "SegmentationDistortion": "distortion",
    "TestTimeAugmentation": "test_time",
}


def __getattr__(name: str) -> Any:
    return _lazy.load(__name__, _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
