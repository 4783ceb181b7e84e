"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .adversary import Adversary as Adversary
from .agreement import ScoreAgreement as ScoreAgreement
from .distortion import SegmentationDistortion as SegmentationDistortion
from .dropout import MCDropout as MCDropout
from .ensemble import DeepEnsemble as DeepEnsemble
from .entropy import MaximumProbability as MaximumProbability
from .entropy import PredictiveEntropy as PredictiveEntropy
from .entropy import ProbabilityMargin as ProbabilityMargin
from .mahalanobis import LatentMahalanobis as LatentMahalanobis
from .mahalanobis import PooledMahalanobis as PooledMahalanobis
from .predictor import BetaQualityPredictor as BetaQualityPredictor
from .predictor import QualityPredictor as QualityPredictor
from .test_time import TestTimeAugmentation as TestTimeAugmentation

FragilityMap: type  # of the room `fragility`; a stub may name modules of its own room only

__all__ = [
    "Adversary",
    "BetaQualityPredictor",
    "DeepEnsemble",
    "FragilityMap",
    "LatentMahalanobis",
    "MCDropout",
    "MaximumProbability",
    "PooledMahalanobis",
    "PredictiveEntropy",
    "ProbabilityMargin",
    "QualityPredictor",
    "ScoreAgreement",
    "SegmentationDistortion",
    "TestTimeAugmentation",
]
