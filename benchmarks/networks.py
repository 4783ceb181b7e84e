"""Which methods run on which network? Networks of other makers and of other forms, times all methods.

Each cell is one of three:

- ``works``: the uncertainties are finite, one per case and not all alike; the network's weights and modes are
  as before; 1 minus the predicted quality is the uncertainty; noise is further from the training cases than
  they are; and a network that only returns the plain one's logits in another form gives the plain one's
  numbers.
- ``refuses``: a ValueError that says what to do instead.
- ``wrong``: anything else. There must be none.

A network whose package is not installed is skipped, and counted.

    python benchmarks/networks.py                # a few minutes on one core, writes the table
    python benchmarks/networks.py --only tuple   # networks whose name holds this word
"""

import argparse
import copy
import dataclasses
import functools
import importlib.util
import os
import tempfile
import time
import types
import warnings
from pathlib import Path

import monai.networks.nets as monai_nets
import numpy as np
import pandas as pd
import torch
from torch import nn

from segconf_lite import confidence
from segconf_lite.cohorts import phantom
from segconf_lite.fragility import FragilityMap, HeadSearch, MaskSearch, TangentSearch
from segconf_lite.models import Training, adapt, fit_unet, probe

TABLE = Path(__file__).parents[1] / "book/results/networks.csv"
N_CASES, SIZE, SMALL = 12, 32, {"steps": 2, "batch_size": 4, "precision": "fp32"}


@functools.cache
def trained(n_classes, channels):
    """A small U-Net with dropout, trained for a second."""
    cohort = make_cohort(Case(None, n_classes=n_classes, channels=channels))
    settings = {"steps": 40, "batch_size": 8, "learning_rate": 0.02, "precision": "fp32"}
    return fit_unet(cohort, channels=(4, 8, 12), dropout=0.2, device="cpu", progress=False, **settings)


def plain(n_classes=4, in_channels=1):
    """The network of which other forms are made; always the same weights."""
    return copy.deepcopy(trained(n_classes, in_channels))


class Form(nn.Module):
    """A network whose logits, or whose images, pass through functions."""

    def __init__(self, network, after=lambda logits: logits, before=lambda images: images):
        super().__init__()
        self.inner, self.after, self.before = network, after, before

    def forward(self, images):
        return self.after(self.inner(self.before(images)))


class ByBrightness(nn.Module):
    """A network without weights: the brighter a pixel, the higher its class."""

    def forward(self, images):
        levels = torch.linspace(-1, 2, 4, device=images.device).reshape(1, 4, 1, 1)
        return -((images - levels) ** 2)


class Stack(nn.Sequential):
    """Layers that TorchScript can read, with a head that is a 1x1 convolution."""

    def __init__(self):
        torch.manual_seed(0)
        layers = (
            nn.Conv2d(1, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Upsample(scale_factor=2),
        )
        super().__init__(*layers, nn.Dropout(0.2), nn.Conv2d(6, 4, 1))


def monai_net(name, **options):
    """A MONAI network with four classes from slices."""
    torch.manual_seed(0)
    return getattr(monai_nets, name)(spatial_dims=2, in_channels=1, out_channels=4, **options)


def half_size(logits):
    return nn.functional.avg_pool2d(logits, 2)


def needs(package, build):
    """A network of a package that may be missing."""
    return build if importlib.util.find_spec(package) else None


@dataclasses.dataclass(frozen=True)
class Case:
    """How to build a network, what images it gets, and whose numbers it must give."""

    build: object  # () -> network; None if its package is missing
    like: object = None  # () -> the network whose numbers it must give
    channels: int = 1
    size: int = SIZE
    n_classes: int = 4


def _dynunet():
    kernels = {
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 12],
    }
    return monai_net("DynUNet", **kernels, deep_supervision=True, deep_supr_num=1)


def _one_channel():
    return Form(plain(n_classes=2), lambda z: z[:, 1:] - z[:, :1])


CASES = {
    "UNet of this package": Case(plain),
    "MONAI UNet": Case(
        lambda: monai_net("UNet", channels=(4, 8, 12), strides=(2, 2), num_res_units=2, dropout=0.1)
    ),
    "MONAI BasicUNet": Case(lambda: monai_net("BasicUNet", features=(4, 4, 8, 8, 12, 4), dropout=0.1)),
    "MONAI AttentionUnet": Case(lambda: monai_net("AttentionUnet", channels=(4, 8, 12), strides=(2, 2))),
    "MONAI SegResNet": Case(lambda: monai_net("SegResNet", init_filters=8, dropout_prob=0.1)),
    "MONAI UNETR": Case(
        lambda: monai_net("UNETR", img_size=SIZE, feature_size=4, hidden_size=24, mlp_dim=48, num_heads=4)
    ),
    "MONAI SwinUNETR": Case(
        needs("einops", lambda: monai_net("SwinUNETR", feature_size=12, depths=(1, 1, 1, 1))), size=64
    ),
    "MONAI DynUNet, deep supervision": Case(_dynunet),
    "MONAI FlexibleUNet": Case(lambda: monai_net("FlexibleUNet", backbone="efficientnet-b0")),
    "MONAI BasicUNetPlusPlus, four outputs": Case(
        lambda: monai_net("BasicUNetPlusPlus", features=(4, 4, 8, 8, 12, 4), deep_supervision=True)
    ),
    "torchvision FCN": Case(
        needs(
            "torchvision", lambda: __import__("torchvision").models.segmentation.fcn_resnet50(num_classes=4)
        ),
        channels=3,
    ),
    "segmentation_models_pytorch Unet": Case(
        needs(
            "segmentation_models_pytorch",
            lambda: __import__("segmentation_models_pytorch").Unet(
                encoder_weights=None, in_channels=1, classes=4
            ),
        )
    ),
    "tuple of logits and features": Case(lambda: Form(plain(), lambda z: (z, half_size(z))), plain),
    "list over resolutions": Case(
        lambda: Form(plain(), lambda z: [half_size(half_size(z)), half_size(z), z]), plain
    ),
    "dictionary out and aux": Case(lambda: Form(plain(), lambda z: {"aux": z * 0.5, "out": z}), plain),
    "object with logits": Case(
        lambda: Form(plain(), lambda z: types.SimpleNamespace(loss=None, logits=z)), plain
    ),
    "two outputs of one size": Case(lambda: Form(plain(), lambda z: (z, -z))),
    "two outputs of one size, adapted": Case(
        lambda: adapt(Form(plain(), lambda z: (z, -z)), output=0), plain
    ),
    "stack of predictions": Case(lambda: Form(plain(), lambda z: torch.stack([z, -z], dim=1))),
    "stack of predictions, adapted": Case(
        lambda: adapt(Form(plain(), lambda z: torch.stack([z, -z], dim=1)), output=0), plain
    ),
    "softmax inside": Case(lambda: Form(plain(), lambda z: z.softmax(dim=1))),
    "softmax inside, adapted": Case(
        lambda: adapt(Form(plain(), lambda z: z.softmax(dim=1)), "probabilities"), plain
    ),
    "one sigmoid channel": Case(_one_channel, n_classes=2),
    "one sigmoid channel, adapted": Case(
        lambda: adapt(_one_channel(), "sigmoid"), lambda: plain(n_classes=2), n_classes=2
    ),
    "one channel after a sigmoid, adapted": Case(
        lambda: adapt(Form(_one_channel(), torch.sigmoid), "probabilities"),
        lambda: plain(n_classes=2),
        n_classes=2,
    ),
    "other number of classes": Case(lambda: plain(n_classes=2)),
    "colour images": Case(lambda: Form(plain(in_channels=3)), lambda: plain(in_channels=3), channels=3),
    "colour network, grey images": Case(lambda: Form(plain(in_channels=3))),
    "colour network, grey images, adapted": Case(
        lambda: adapt(Form(plain(in_channels=3)), channels=(0, 0, 0)),
        lambda: Form(plain(in_channels=3), before=lambda x: x.repeat(1, 3, 1, 1)),
    ),
    "sides that do not fit": Case(lambda: Form(plain()), size=30),
    "sides that do not fit, adapted": Case(lambda: adapt(Form(plain()), pad_to=4), size=30),
    "normalisation inside": Case(
        lambda: Form(plain(), before=lambda x: (x - x.mean((2, 3), keepdim=True)) / x.std()),
    ),
    "no parameters": Case(ByBrightness),
    "works in place on its images": Case(
        lambda: Form(plain(), before=lambda x: x.mul_(2)), lambda: Form(plain(), before=lambda x: x * 2)
    ),
    "scripted": Case(lambda: torch.jit.script(Stack().eval()), Stack),
    "traced": Case(lambda: torch.jit.trace(Stack().eval(), torch.zeros(1, 1, SIZE, SIZE)), Stack),
    "compiled": Case(lambda: torch.compile(Stack().eval(), backend="eager"), Stack),
    "DataParallel": Case(lambda: nn.DataParallel(plain()), plain),
    "half precision": Case(lambda: Form(plain()).half()),
    "bfloat16": Case(lambda: Form(plain()).bfloat16()),
}


def make_cohort(case):
    """Slices of scanner A with the size, the channels and the classes of a case."""
    cohort = phantom.cohort(N_CASES, scanner="A", size=case.size)
    images = np.concatenate([cohort.images * (1 + 0.1 * k) for k in range(case.channels)], axis=1)
    if case.n_classes == 4:
        return dataclasses.replace(cohort, images=images)
    names = "background", "foreground"
    return dataclasses.replace(cohort, images=images, labels=(cohort.labels > 0) * 1, class_names=names)


def modules_of(network, case):
    """Names for the methods that need them; those of our own network where a probe is refused."""
    try:
        found = probe(network, case.size, channels=case.channels)
    except ValueError:
        return {"deep": "bottleneck", "read": ["bottleneck"], "head": "head", "weights": "head"}
    roles = ("bottleneck", "decoder", "penultimate")
    read = [name for role in roles if (name := found.named(role))]
    deep, head = found.named("bottleneck"), found.named("head")
    names = {"deep": deep or "bottleneck", "read": read or ["bottleneck"], "head": head or "head"}
    return {**names, "weights": head or found.named("decoder") or "head"}


FEW = {"batch_size": 6}
METHODS = {
    "PredictiveEntropy": lambda n, m: confidence.PredictiveEntropy(**FEW),
    "MaximumProbability": lambda n, m: confidence.MaximumProbability(**FEW),
    "ProbabilityMargin": lambda n, m: confidence.ProbabilityMargin(**FEW),
    "SoftDiceConfidence": lambda n, m: confidence.SoftDiceConfidence(**FEW),
    "MCDropout": lambda n, m: confidence.MCDropout(n_samples=3, precision="fp32", **FEW),
    "DeepEnsemble": lambda n, m: confidence.DeepEnsemble(
        n_members=2, training=SMALL, precision="fp32", **FEW
    ),
    "DeepEnsemble, members": lambda n, m: confidence.DeepEnsemble(
        members=[other(n)], precision="fp32", **FEW
    ),
    "TestTimeAugmentation": lambda n, m: confidence.TestTimeAugmentation(precision="fp32", **FEW),
    "ScoreAgreement": lambda n, m: confidence.ScoreAgreement(
        confidence.TestTimeAugmentation(
            transforms=("identity", "brighter", "flip_rows"), precision="fp32", **FEW
        )
    ),
    "PooledMahalanobis": lambda n, m: confidence.PooledMahalanobis(module=m["deep"], pooling="published"),
    "LatentMahalanobis": lambda n, m: confidence.LatentMahalanobis(
        module=m["deep"], training={"code": 4, "width": 4, "depth": 1, **SMALL}
    ),
    "SegmentationDistortion": lambda n, m: confidence.SegmentationDistortion(
        module=m["deep"], training={"code": 4, "width": 4, "depth": 1, **SMALL}
    ),
    "QualityPredictor": lambda n, m: confidence.QualityPredictor(
        modules=m["read"], training=Training(**SMALL, augmentation="strong")
    ),
    "BetaQualityPredictor": lambda n, m: confidence.BetaQualityPredictor(
        modules=m["read"], training=Training(**SMALL, augmentation="strong")
    ),
    "FragilityMap, head": lambda n, m: FragilityMap(
        search=HeadSearch(head=m["head"]), budget=1e-9, region="image"
    ),
    "FragilityMap, decoder": lambda n, m: FragilityMap(
        search=TangentSearch(modules=(m["weights"],), n_draws=2, n_slices=2), budget=1e-12, region="image"
    ),
    "FragilityMap, mask": lambda n, m: FragilityMap(
        search=MaskSearch(steps=1, n_penalty=2, targets=("classes",)), region="image"
    ),
}
# They learn weights of their own in `fit`, so that the same network in another form is another training.
LEARNED = (
    "DeepEnsemble",
    "LatentMahalanobis",
    "SegmentationDistortion",
    "QualityPredictor",
    "BetaQualityPredictor",
)


def other(network):
    """The same network with slightly other weights, where it has any that can be copied."""
    if isinstance(network, torch.jit.ScriptModule):
        return network  # a copy of it is no network that another program would load
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for k, value in enumerate(twin.parameters()):
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(k))
            value.add_(0.02 * noise.to(value))
    return twin


def state_of(network):
    """Weights, modes and what is frozen, to be compared."""
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = [parameter.requires_grad for parameter in network.parameters()]
    return weights, [module.training for module in network.modules()], frozen


def unchanged(before, after):
    """Whether two results of `state_of` are equal."""
    same = all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    return same and before[1:] == after[1:]


def numbers(method, case, cohort, network):
    """Uncertainties of the first six cases by a freshly fitted method, and that method."""
    fitted = METHODS[method](network, modules_of(network, case)).fit(network, cohort)
    return fitted.uncertainty(cohort.images[:6]), fitted


def judge(method, case, network, cohort):
    """``works``, ``refuses: ...`` or ``wrong: ...`` for one method on one network."""
    before = state_of(network)
    try:
        found, fitted = numbers(method, case, cohort, network)
    except ValueError as error:
        text = " ".join(str(error).split())
        helps = ";" in text or "name it with" in text
        return f"refuses: {text}" if helps and unchanged(before, state_of(network)) else f"wrong: {text}"
    except Exception as error:  # the point of the table
        return f"wrong: {type(error).__name__}: {error}"
    if tuple(found.shape) != (6,) or not found.isfinite().all():
        return f"wrong: {found.tolist()}"
    if found.min() == found.max() and method != "ScoreAgreement":  # predictions may agree everywhere
        return f"wrong: all cases have {found[0]}"
    if not unchanged(before, state_of(network)):
        return "wrong: the network was changed"
    if hasattr(fitted, "predicted_quality"):
        quality = fitted.predicted_quality(cohort.images[:6])
        if not torch.allclose((1 - found).clamp(0, 1), quality, atol=1e-5):
            return "wrong: the uncertainty is not 1 minus the quality"
    if method == "PooledMahalanobis":
        noise = 3 * np.random.default_rng(0).normal(size=cohort.images[:6].shape).astype(np.float32)
        if fitted.uncertainty(noise).mean() <= found.mean():
            return "wrong: noise is nearer than training cases"
    if case.like is not None and method not in LEARNED:
        expected = numbers(method, case, cohort, case.like().eval())[0]
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
            return f"wrong: {found.tolist()}, and from the plain network {expected.tolist()}"
    return "works"


def column(name, methods=tuple(METHODS)):
    """Outcomes and seconds of all methods on one network, as rows of the table."""
    case = CASES[name]
    if case.build is None:
        return [
            {"network": name, "method": method, "outcome": "skipped", "seconds": 0.0} for method in methods
        ]
    network, cohort, rows = case.build().eval(), make_cohort(case), []
    for method in methods:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = judge(method, case, network, cohort)
        seconds = time.perf_counter() - start
        rows.append({"network": name, "method": method, "outcome": outcome, "seconds": round(seconds, 2)})
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--methods", default="", help="methods whose name holds this text")
    options = parser.parse_args()
    methods = [name for name in METHODS if options.methods in name]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEGCONF_HOME"] = folder  # no training is read from, or left in, the user's store
        for name in CASES:
            if options.only in name:
                rows += column(name, methods)
                cells = [row["outcome"].split(":")[0] for row in rows[-len(methods) :]]
                counts = ", ".join(f"{cells.count(kind)} {kind}" for kind in dict.fromkeys(cells))
                print(
                    f"{name}: {counts}; {sum(row['seconds'] for row in rows[-len(methods) :]):.0f} s",
                    flush=True,
                )
                for row in rows[-len(methods) :]:
                    if row["outcome"].startswith("wrong"):
                        print(f"    {row['method']}: {row['outcome'][:300]}", flush=True)
    table = pd.DataFrame(rows)
    if not options.only and not options.methods:
        TABLE.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    return int(table["outcome"].str.startswith("wrong").any())


if __name__ == "__main__":
    raise SystemExit(main())
