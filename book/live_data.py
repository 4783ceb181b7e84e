"""What the live page computes with: hearts, tissues and networks, as files of the site.

Everything random about a heart (its shapes, the texture of its tissues, the noise of its scan) is drawn as
the phantom draws it, with no variation from scan to scan (``jitter=0``); the page turns the knobs of the
scanner. Segmentation network and quality predictor are those of chapter 4, read from the store (or trained,
where nothing is stored), and exported as one ONNX network from the image to probabilities and predicted Dice.
"""

import base64
import gzip
import io
import json
import warnings
from typing import Any

import numpy as np
import torch
from live_gradient import LossGradient
from torch import Tensor, nn

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import Cohort, phantom
from segconf_lite.cohorts.phantom import anatomy
from segconf_lite.cohorts.phantom import phantom as drawing
from segconf_lite.cohorts.phantom.scanner import SCANNERS, TISSUES, bssfp_signal, relaxation_ms
from segconf_lite.cohorts.phantom.subjects import SLICES_PER_SUBJECT
from segconf_lite.confidence import Adversary, BetaQualityPredictor, soft_dice_confidence
from segconf_lite.confidence.heads import HEADS
from segconf_lite.confidence.predictor_training import FeatureReader
from segconf_lite.evaluation import case_table
from segconf_lite.fragility import FragilityMap
from segconf_lite.models import Training, UNet, fit_unet, fitted, predict_probabilities
from segconf_lite.models.taps import Taps
from segconf_lite.profiles import LITE

HEARTS = ((0, 2), (1, 1), (3, 2), (4, 3), (6, 1), (7, 2))  # (subject, slice)
SEED = 1000  # the test subjects of the chapters at seed 0
CALIBRATION_SEED = 3000  # subjects that are neither in the training nor among the hearts of the page
N_CALIBRATION = 59  # enough for a promise of 98 %
FIELDS = ("noise", "blur_mm", "bias", "ghost", "flip_deg", "fat_signal", "gamma", "partial_fourier")


def packed(values: bytes) -> str:
    """Compressed and as text, so that a script can carry it: a page opened from the disk may read no file."""
    return base64.b64encode(gzip.compress(values, 9, mtime=0)).decode("ascii")


def tissues(size: int = LITE.size, name: str = "A") -> dict[str, Any]:
    """Constants of the acquisition on a scanner."""
    scanner = SCANNERS[name]
    t1_ms, t2_ms = relaxation_ms(scanner.field_t)
    signal = bssfp_signal(scanner.field_t, 90.0, scanner.tr_ms)
    e1, e2 = np.exp(-scanner.tr_ms / t1_ms), np.exp(-scanner.tr_ms / t2_ms)
    density = signal / ((1 - e1) / (1 - e1 * e2) * np.exp(-scanner.tr_ms / 2 / t2_ms))
    reference = bssfp_signal(1.5, 60.0, 3.2)[TISSUES.index("blood")]
    return {
        "names": list(TISSUES),
        "t1_ms": t1_ms.tolist(),
        "t2_ms": t2_ms.tolist(),
        "density": density.tolist(),
        "reference": float(reference),
        "tr_ms": scanner.tr_ms,
        "pixel_mm": scanner.pixel_mm,
        "clip_percentile": scanner.clip_percentile,
        "size": size,
        "spacing_mm": anatomy.FIELD_OF_VIEW_MM / size,
        "scanner": {knob: getattr(scanner, knob) for knob in FIELDS},
    }


def heart(subject: int, number: int, size: int = LITE.size) -> dict[str, np.ndarray]:
    """Tissue fractions, labels, and what is random about the scan, of one slice of a subject.

    The order of the draws is that of `phantom.acquire`; a test compares the images.
    """
    at = subject * SLICES_PER_SUBJECT + number
    for block in drawing.blocks(at + 1, size=size, seed=SEED):
        if block.cases.start <= at < block.cases.stop:
            fractions = block.anatomy.fractions[at - block.cases.start]
            labels = drawing.reference_labels(block.anatomy.inside_mm)[at - block.cases.start]
    rng = drawing.slice_streams(SEED, range(subject, subject + 1), drawing._SCAN)[number]
    rng.standard_normal(6)  # the variation from scan to scan, which is left out
    knots = {name: rng.standard_normal((n, n)) for name, n in (("texture_coarse", 9), ("texture_fine", 32))}
    knots |= {name: rng.standard_normal((3, 3)) for name in ("coil", "phase")}
    once = {"period": np.array(rng.uniform(3, 9)), "start": np.array(rng.uniform(0, 2 * np.pi))}
    noise = rng.standard_normal((2, size, size), dtype=np.float32)
    return {
        "fractions": np.round(fractions * 65535).astype(np.uint16),
        "labels": labels.astype(np.uint8),
        **{name: values.astype(np.float32) for name, values in (knots | once).items()},
        "noise": noise.astype(np.float16),
    }


def hearts_script() -> str:
    """The script that hands hearts and tissues to the page."""
    kinds = {"uint16": "Uint16Array", "uint8": "Uint8Array", "float32": "Float32Array", "float16": "half"}
    listed = [
        {name: [kinds[str(values.dtype)], packed(values.tobytes())] for name, values in heart(*place).items()}
        for place in HEARTS
    ]
    scanners = {name: tissues(name=name) for name in SCANNERS}
    return f"window.segconfHearts = {json.dumps({'scanners': scanners, 'hearts': listed})};\n"


class _Joint(nn.Module):
    """Image (1, 1, H, W) -> probabilities (1, C, H, W), predicted mean Dice (1,), features (1, F, H, W)."""

    def __init__(self, method: BetaQualityPredictor, unet: nn.Module) -> None:
        super().__init__()
        assert method.network is not None
        self.unet, self.network, self.head = unet, method.network, method.head
        self.read = FeatureReader(unet, method.modules, probabilities=method.probabilities)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with Taps(self.unet, features="penultimate") as taps:
            levels, logits = self.read(image)
            features = taps["features"]
        dice = HEADS[self.head].mean(self.network(levels))[:, 0].clamp(0, 1)
        return logits.softmax(dim=1), dice, features


def trained() -> tuple[UNet, Cohort]:
    """The segmentation network of chapter 2 at seed 0 in the profile lite, and its training cases."""
    train = phantom.cohort(LITE.n_train, scanner="A", size=LITE.size, seed=0)
    return fitted(fit_unet, train, seed=0, steps=LITE.steps, channels=LITE.channels, dropout=0.1), train


def joint_network() -> nn.Module:
    """That segmentation network and the Beta predictor of chapter 4."""
    unet, train = trained()
    schedule = Training(steps=LITE.steps, learning_rate=2e-3, weight_decay=1e-3, seed=0)
    strong = schedule.changed(augmentation="strong")
    method = BetaQualityPredictor(adversary=Adversary(effect_size=0.1), training=strong).fit(unet, train)
    return _Joint(method, unet).eval().cpu()


def last_layer(unet: nn.Module, train: Cohort) -> dict[str, Any]:
    """Weights of the last layer; factors F with which |f F|^2 is the leverage of a pair of classes."""
    fitted_map: Any = FragilityMap().fit(unet, train)._fitted
    weight = torch.cat([fitted_map.head.weight[:, :, 0, 0], fitted_map.head.bias[:, None]], dim=1)
    factors = fitted_map.inverse.factors.movedim(1, 0).float()  # (P, D, D)
    return {"weight": weight.tolist(), "factors": factors.flatten(1).tolist()}


def calibration_excess(unet: nn.Module) -> list[float]:
    """Soft Dice confidence minus true Dice of one slice of each calibration subject on scanner A."""
    n_cases = N_CALIBRATION * SLICES_PER_SUBJECT
    cohort = phantom.cohort(n_cases, scanner="A", size=LITE.size, seed=CALIBRATION_SEED, jitter=0.0)
    # Like the hearts of the page, the slices are the second to the fourth of their subjects.
    chosen = cohort.take(np.array([s * SLICES_PER_SUBJECT + 1 + s % 3 for s in range(N_CALIBRATION)]))
    probabilities = predict_probabilities(unet, chosen.images)
    quality = case_table(probabilities, chosen, empty="skip")["quality"].to_numpy()
    return (to_numpy(soft_dice_confidence(probabilities)) - quality).round(6).tolist()


def numbers_script() -> str:
    """The script of what chapters 5 and 9 need to know of the training and calibration cases."""
    unet, train = trained()
    numbers = {"lastLayer": last_layer(unet, train), "excess": calibration_excess(unet)}
    return f"window.segconfNumbers = {json.dumps(numbers)};\n"


def onnx_of(network: nn.Module, size: int = LITE.size) -> bytes:
    """The network as ONNX, for one image of the size."""
    return _exported(
        network, (torch.zeros(1, 1, size, size),), ["image"], ["probabilities", "dice", "features"]
    )


def gradient_onnx(unet: Any, size: int = LITE.size) -> bytes:
    """The gradient of the loss by the image as ONNX, for one image of the size and its labels."""
    network = LossGradient(unet)
    network.eval().cpu()
    example = (torch.zeros(1, 1, size, size), torch.zeros(1, network.n_classes, size, size))
    return _exported(network, example, ["image", "labels"], ["probabilities", "gradient"])


def _exported(
    network: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str]
) -> bytes:
    target: Any = io.BytesIO()
    names: dict[str, Any] = {"input_names": inputs, "output_names": outputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of checks that it does not trace
        torch.onnx.export(network, example, target, dynamo=False, opset_version=17, **names)
    return target.getvalue()
