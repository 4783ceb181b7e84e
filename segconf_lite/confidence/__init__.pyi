"""Public names of the room and their modules; read when the room is imported, and by type checkers."""

from .adversary import Adversary as Adversary
from .agreement import ScoreAgreement as ScoreAgreement
from .baselines import MaximumProbability as MaximumProbability
from .baselines import PredictiveEntropy as PredictiveEntropy
from .baselines import ProbabilityMargin as ProbabilityMargin
from .baselines import SoftDiceConfidence as SoftDiceConfidence
from .baselines import soft_dice_confidence as soft_dice_confidence
from .distance import LatentMahalanobis as LatentMahalanobis
from .distance import PooledMahalanobis as PooledMahalanobis
from .distortion import SegmentationDistortion as SegmentationDistortion
from .predictor import BetaQualityPredictor as BetaQualityPredictor
from .predictor import QualityPredictor as QualityPredictor
from .reverse import reverse_classification_accuracy as reverse_classification_accuracy
from .sampling import DeepEnsemble as DeepEnsemble
from .sampling import MCDropout as MCDropout
from .sampling import TestTimeAugmentation as TestTimeAugmentation
from .topology import ring_defects as ring_defects

def load(folder: object, network: object) -> object: ...  # of the module `saving`, beside the rooms

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
    "SoftDiceConfidence",
    "TestTimeAugmentation",
    "load",
    "reverse_classification_accuracy",
    "ring_defects",
    "soft_dice_confidence",
]
