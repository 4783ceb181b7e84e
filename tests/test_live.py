"""The live page: what the browser computes equals what the package computes."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import live_data
import numpy as np
import onnxruntime
import pytest
import torch

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import BetaQualityPredictor, soft_dice_confidence
from segconf_lite.evaluation import case_table
from segconf_lite.models import Training, UNet

LIVE = Path(__file__).parents[1] / "book" / "live"
NODE = shutil.which("node")
SIZE = 32
in_node = pytest.mark.skipif(NODE is None, reason="Node is not installed")
ODD = {"noise": 0.2, "blur_mm": 2.0, "bias": -1.5, "ghost": 0.6, "flip_deg": 27.0, "fat_signal": 0.02}


def node(expression, **values):
    """A value that Node computes with the page's script."""
    script = f"const S = require({json.dumps(str(LIVE / 'scanner.js'))}); const d = {json.dumps(values)};"
    script += f"console.log(JSON.stringify({expression}))"
    command = [NODE, "--input-type=commonjs", "-"]
    run = subprocess.run(command, input=script, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(run.stdout)


@in_node
@pytest.mark.parametrize(("subject", "number"), [(0, 2), (3, 4)])
@pytest.mark.parametrize("knobs", [{}, ODD])
def test_the_page_scans_as_the_phantom_does(subject, number, knobs):
    heart = {k: v.astype(float).ravel().tolist() for k, v in live_data.heart(subject, number, SIZE).items()}
    heart |= {name: heart[name][0] for name in ("period", "start")}
    tissues = live_data.tissues(SIZE)
    setting = {**tissues["scanner"], **knobs}
    image = node(
        "Array.from(S.scan(d.heart, d.tissues, d.setting))", heart=heart, tissues=tissues, setting=setting
    )
    scanner = dataclasses.replace(phantom.SCANNERS["A"], **knobs)
    k = subject * 6 + number
    wanted = phantom.cohort(k + 1, scanner=scanner, size=SIZE, seed=live_data.SEED, jitter=0)
    np.testing.assert_allclose(np.reshape(image, (SIZE, SIZE)), wanted.images[k, 0], atol=1e-3)
    assert heart["labels"] == wanted.labels[k].ravel().tolist()


@in_node
def test_the_page_judges_as_the_package_does():
    cohort = phantom.cohort(3, size=16, seed=5)
    probabilities = (
        torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0)).mul(3).softmax(dim=1)
    )
    probabilities[2, 1] = 0  # a class that is not predicted
    probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
    quality = case_table(probabilities, cohort, empty="skip")["quality"]
    for k in range(3):
        values, labels = probabilities[k].ravel().tolist(), cohort.labels[k].ravel().tolist()
        found = node("S.judged(d.values, 4, d.labels)", values=values, labels=labels)
        assert found["dice"] == pytest.approx(quality[k], abs=1e-5)
        assert found["softDice"] == pytest.approx(soft_dice_confidence(probabilities)[k].item(), abs=1e-5)
        entropy = -(probabilities[k] * probabilities[k].clamp(min=1e-30).log()).sum(dim=0) / np.log(4)
        shown = [found["entropy"][str(i)] for i in range(256)]
        np.testing.assert_allclose(shown, entropy.ravel(), atol=1e-5)


def test_the_exported_network_is_the_trained_one():
    size = 48  # a multiple of the predictor's grid, as the page's 96 is
    cohort = phantom.cohort(12, size=size)
    torch.manual_seed(3)
    unet = UNet(n_classes=4, channels=(4, 8, 8), dropout=0.1).eval()
    method = BetaQualityPredictor(training=Training(steps=2, batch_size=6), modules=["bottleneck"])
    method.fit(unet, cohort)
    exported = live_data.onnx_of(live_data._Joint(method, unet).eval(), size)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for image in cohort.images[:4]:
        probabilities, dice = session.run(None, {"image": image[None]})
        np.testing.assert_allclose(probabilities, unet(image[None]).softmax(dim=1).detach(), atol=1e-4)
        np.testing.assert_allclose(dice, method.predicted_quality(image[None]), atol=1e-4)


@pytest.mark.parametrize(
    ("folder", "name"), [(LIVE, "onnxruntime-web"), (Path(__file__).with_name("axe"), "axe-core")]
)
def test_a_lock_file_pins_packages_by_their_hash_and_names_no_host(folder, name):
    lock = (folder / "package-lock.json").read_text("utf-8")
    packages = {name: entry for name, entry in json.loads(lock)["packages"].items() if name}
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "http" not in lock.replace("https://opencollective.com", "")
    wanted = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"][name]
    assert packages[f"node_modules/{name}"]["version"] == wanted
