"""Plain names for the columns that the claims compare, which have short names in the tables of cases."""

from __future__ import annotations

import re

from segconf_lite.claims.registry import Claim
from segconf_lite.claims.statistics import STATISTICS

# Column -> what it is called on the page "What held up" and in `segconf claims show`.
_PLAIN = {
    "1 / distance": "1 over the distance to the border",
    "Beta": "the Beta predictor",
    "Beta, plain": "the Beta predictor without adversary",
    "Dice: no new labels": "Dice after equally long training without new labels",
    "Dice: random": "Dice with slices chosen at random",
    "PGD": "Dice under PGD",
    "SegPGD": "Dice under SegPGD",
    "adversary": "the adversarially trained predictor",
    "adversary, as it is": "the adversarially trained predictor without augmentation",
    "all weights": "flip cost by a search over all weights",
    "as published: like entropy": "correlation of the mask search as published with the entropy",
    "atlas gap *": "the atlas",
    "atlas_quality": "Dice of the atlas",
    "batch": "Dice with batch norm",
    "blurred mask, 1 px": "the blurred mask",
    "bound": "lower bound of the Dice",
    "brier": "Brier score",
    "closed": "flip cost by the closed form",
    "code distance": "the code distance",
    "confidence": "mean foreground probability",
    "covered": "fraction of slices whose Dice the bound does not exceed",
    "decoder": "the decoder's tangent",
    "detected": "fraction of streams in which the martingale reaches 20",
    "distance": "the pooled distance",
    "distance, published pooling": "the distance with the published pooling",
    "distortion": "the distortion",
    "distortion, Dice": "the Dice form of the distortion",
    "dropout": "dropout",
    "dropout, 2 answers: agreement": "the agreement of 2 dropout passes",
    "dropout: agreement": "the agreement of 15 dropout passes",
    "effect size 0.05": "the predictor with effect size 0.05",
    "effect size 0.2": "the predictor with effect size 0.2",
    "ensemble": "the ensemble",
    "ensemble: agreement": "the agreement of the ensemble",
    "ensemble: agreement, strict": "the strict agreement of the ensemble",
    "entropy": "the entropy",
    "entropy, foreground": "the entropy over the foreground",
    "entropy, image": "the entropy over the image",
    "exact": "flip cost by a convex solver",
    "far found: distance": "fraction of far wrong pixels found by the distance to the border",
    "flagged": "fraction of slices flagged",
    "flagged: PGD": "fraction of slices flagged under PGD",
    "flagged: corruption": "fraction of slices flagged under a random corruption",
    "grey matter": "Dice of the grey matter",
    "hardest": "Dice on the hardest images",
    "inside 90 %": "fraction of slices whose Dice lies in the 90 % interval",
    "instance": "Dice with instance norm",
    "last layer": "the last layer",
    "last layer, boundary": "the fragility of the last layer along the boundary",
    "left by bound per scanner": "failures left by the bounds per scanner",
    "left by predicted quality": "failures left by the predicted qualities",
    "lowest Dice": "the lowest true Dice",
    "mean Dice of A": "the mean Dice of A",
    "missed": "fraction of the heart that is missed",
    "network code": "the architecture",
    "network gap *": "the network",
    "new": "whether the heart is of an unseen kind",
    "no skips": "Dice without skips",
    "noise": "noise",
    "norm code": "the norm",
    "on another": "Dice after training on other noises",
    "on nothing": "Dice after training on no noise",
    "overlap 0": "Dice of small discs without overlap of the windows",
    "overlap 0.75": "Dice of small discs with three quarters of overlap",
    "plain": "the plain predictor",
    "plain, as it is": "the plain predictor without augmentation",
    "point": "the predictor of a single number",
    "probability, foreground": "the mean probability of the predicted foreground",
    "product_of_drops": "true fall times predicted fall",
    "quality": "Dice",
    "rank mean: soft Dice, size": "the mean of the ranks by soft Dice confidence and by size",
    "rater disagreement": "the disagreement of the radiologists",
    "ratio": "flip cost by the closed form over that by a convex solver",
    "reconstructed quality": "Dice with reconstructed activations",
    "rejected: Beta": "fraction of slices rejected by the predicted probability of a bad segmentation",
    "rejected: soft Dice": "fraction of slices rejected by a threshold on the soft Dice confidence",
    "regret": "eAURC above that of the best of four methods",
    "residual": "Dice of the U-Net with residual units",
    "reverse": "reverse classification accuracy",
    "ring": "the boundary band",
    "risk": "the risk",
    "sd: Beta": "the standard deviation that the Beta predictor states",
    "search": "the mask search",
    "skip code": "skip connections",
    "small prediction": "the size of the prediction",
    "soft Dice": "the soft Dice confidence",
    "soft Dice, one per subject": "the soft Dice confidence, one per subject",
    "soft Dice, calibrated": "the calibrated soft Dice confidence",
    "squared_predicted_drop": "squared predicted fall",
    "strong corruptions": "the predictor trained with strong corruptions",
    "tempered brier": "Brier score with the temperature",
    "unet": "Dice of the U-Net without residual units",
    "unperturbed": "Dice on unperturbed images",
    "unseen": "whether the scanner is unseen",
    "weight noise": "weight noise",
    "with skips": "Dice with skips",
    "wrong: Beta": "fraction of wrong decisions by the predicted probability of a bad segmentation",
    "wrong: Beta, mean": "fraction of wrong decisions by a threshold on the mean of the Beta predictor",
    "wrong: soft Dice": "fraction of wrong decisions by a threshold on the soft Dice confidence",
}
# Column whose values are judged one by one, or averaged.
_GROUPS = {
    "dataset": "data set",
    "domain": "scanner",
    "eps": "size of the attack",
    "trouble": "corruption",
    "window": "size of the window",
}
# The same name stands for other things where the mean of a column is compared in these chapters.
_OF_CHAPTER = {
    (4, "noise"): "the predictor trained with noise",
    (5, "last layer"): "flip cost by a search over the last layer",
    (7, "domain"): "corruption",
    (8, "noise"): "Dice under noise",
}
_TWICE = {
    "mean of fraction": "fraction",
    "mean of mean": "mean",
    "mean of eAURC": "eAURC",
    ", with the risk as the risk": "",
}
_AUGMENTED = ", augmented"  # end of the columns of the network trained with augmentation
_ANNOTATORS = "correlation of {} with the annotators"
_FOLLOWS = {"1 / distance", "blurred mask, 1 px", "entropy", "ring"}  # in chapter 5
_PARTS = (
    (r"(.+): rings", "fraction of slices flagged by {}"),
    (r"flagged: (.+)", "fraction of slices flagged by {}"),
    (r"eAURC: (.+)", "eAURC of {}"),
    (r"error: (.+)", "absolute error of {}"),
    (r"far found: (.+)", "fraction of far wrong pixels found by {}"),
    (r"found: (.+)", "fraction of wrong pixels found by {}"),
    (r"follows: (.+)", _ANNOTATORS),
    (r"(?:beyond distance: (.+)|(.+?)(?:, total)?: beyond distance)", _ANNOTATORS + " beyond the distance"),
    (r"Dice: (.+)", "Dice with slices chosen by {}"),
    (r"AUROC: (.+)", "AUROC of {}"),
    (r"AUROC, on E: (.+)", "AUROC of {} where the changed heart is seen on E"),
    (r"search, (aleatoric|epistemic): mean", "the mean {} part of the mask search"),
    (r"search, (aleatoric|epistemic)", _ANNOTATORS.format("the {} part of the mask search")),
    (r"(.+), total", _ANNOTATORS),
)


def plain_name(column: str, chapter: int) -> str:
    """What a column of the tables of cases is, in the words of the book; an unknown column as it is.

    Args:
        column: Name of the column.
        chapter: Number of the chapter of the claim, because a few names mean something else elsewhere.

    Example:
        >>> plain_name("distance: rings", 3), plain_name("noise", 8)
        ('fraction of slices flagged by the pooled distance', 'Dice under noise')
    """
    if chapter == 5 and column in _FOLLOWS:
        return _ANNOTATORS.format(_PLAIN[column])
    if (chapter, column) in _OF_CHAPTER:
        return _OF_CHAPTER[chapter, column]
    if column.endswith(_AUGMENTED):
        return plain_name(column.removesuffix(_AUGMENTED), chapter) + " after training with augmentation"
    for pattern, words in _PARTS if column not in _PLAIN else ():
        if found := re.fullmatch(pattern, column):
            part = next(group for group in found.groups() if group is not None)
            return words.format(_PLAIN.get(part, part))
    return _PLAIN.get(column, column)


def plain_statistic(claim: Claim) -> str:
    """What is computed for a claim, in the words of the book.

    Args:
        claim: The claim.

    Example:
        >>> from segconf_lite.claims import read_claims
        >>> plain_statistic(read_claims()["soft-dice-ranks-better-than-size"])
        'eAURC of the soft Dice confidence minus that of the size of the prediction, within each scanner, ...'
    """
    named = {name: plain_name(column, claim.chapter) for name, column in claim.columns.items()}
    words = STATISTICS[claim.statistic].words.format(**named)
    for twice, once in _TWICE.items():
        words = words.replace(twice, once)
    words += f", within each {_group(claim.within, claim.chapter)}, then averaged" if claim.within else ""
    return words + (f", for each {_group(claim.each, claim.chapter)}" if claim.each else "")


def _group(column: str, chapter: int) -> str:
    return _OF_CHAPTER.get((chapter, column), _GROUPS.get(column, column))
