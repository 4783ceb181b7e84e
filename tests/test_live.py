"""The live page: what the browser computes equals what the package computes."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import live_data
import live_figures
import numpy as np
import onnxruntime
import pytest
import torch
from rewrite import BookError

from segconf_lite.cohorts import phantom
from segconf_lite.confidence import BetaQualityPredictor, soft_dice_confidence
from segconf_lite.evaluation import (
    case_table,
    conformal_quantile,
    excess_aurc,
    risk_coverage,
    smallest_calibration_size,
)
from segconf_lite.fragility import FragilityMap
from segconf_lite.models import Training, UNet
from segconf_lite.stress import attacks

LIVE = Path(__file__).parents[1] / "book" / "live"
NODE = shutil.which("node")
SIZE = 32
in_node = pytest.mark.skipif(NODE is None, reason="Node is not installed")
ODD = {"noise": 0.2, "blur_mm": 2.0, "bias": -1.5, "ghost": 0.6, "flip_deg": 27.0, "fat_signal": 0.02}


def node(expression, **values):
    """A value that Node computes with the page's scripts: S scans, M measures."""
    files = {"S": "scanner.js", "M": "measures.js"}
    script = "".join(f"const {k} = require({json.dumps(str(LIVE / name))});" for k, name in files.items())
    script += f"const d = {json.dumps(values)};"
    script += f"console.log(JSON.stringify({expression}))"
    command = [NODE, "--input-type=commonjs", "-"]
    run = subprocess.run(command, input=script, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(run.stdout)


@in_node
@pytest.mark.parametrize("knobs", [{}, ODD])
@pytest.mark.parametrize(("name", "subject", "number"), [("A", 0, 2), ("C", 3, 4), ("D", 1, 1)])
def test_the_page_scans_as_the_phantom_does(name, subject, number, knobs):
    heart = {k: v.astype(float).ravel().tolist() for k, v in live_data.heart(subject, number, SIZE).items()}
    heart |= {name: heart[name][0] for name in ("period", "start")}
    tissues = live_data.tissues(SIZE, name)
    setting = {**tissues["scanner"], **knobs}
    image = node(
        "Array.from(S.scan(d.heart, d.tissues, d.setting))", heart=heart, tissues=tissues, setting=setting
    )
    scanner = dataclasses.replace(phantom.SCANNERS[name], **knobs)
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


def small_unet():
    """A U-Net with normalisation statistics of its own, not trained."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        unet = UNet(n_classes=4, channels=(4, 8, 8), dropout=0.1)
        with torch.no_grad():
            unet.train()(torch.randn(4, 1, 32, 32))
    return unet.eval()


def test_the_exported_network_is_the_trained_one():
    size = 48  # a multiple of the predictor's grid, as the page's 96 is
    cohort = phantom.cohort(12, size=size)
    unet = small_unet()
    method = BetaQualityPredictor(training=Training(steps=2, batch_size=6), modules=["bottleneck"])
    method.fit(unet, cohort)
    exported = live_data.onnx_of(live_data._Joint(method, unet).eval(), size)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for image in cohort.images[:4]:
        probabilities, dice, features = session.run(None, {"image": image[None]})
        last = torch.log_softmax(unet.head(torch.from_numpy(features)), dim=1).detach()
        np.testing.assert_allclose(last, np.log(probabilities), atol=1e-3)
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


def test_the_exported_gradient_is_that_of_torch():
    cohort, unet = phantom.cohort(4, size=SIZE, scanner="D"), small_unet()
    exported = live_data.gradient_onnx(unet, SIZE)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for k in range(1, 4):
        image, labels = cohort.images[k : k + 1], cohort.labels[k : k + 1]
        one_hot = np.eye(4, dtype=np.float32)[labels].transpose(0, 3, 1, 2)
        probabilities, gradient = session.run(None, {"image": image, "labels": one_hot})
        wanted = attacks.loss_gradient(unet, image, labels)[1].numpy()
        np.testing.assert_allclose(gradient, wanted, atol=1e-4 * np.abs(wanted).max())
        np.testing.assert_allclose(probabilities, unet(image).softmax(dim=1).detach(), atol=1e-5)


@in_node
def test_a_step_of_the_page_is_that_of_fgsm():
    cohort, unet = phantom.cohort(2, size=SIZE), small_unet()
    image, labels = cohort.images[1:2], cohort.labels[1:2]
    slope = attacks.loss_gradient(unet, image, labels)[1]
    values = {"image": image.ravel().tolist(), "slope": slope.ravel().tolist()}
    moved = node("M.stepped(d.image, d.slope, 0.05)", **values)
    wanted = attacks.fgsm(unet, image, labels, eps=0.05, unit="sd", bounds=None)
    assert not torch.equal(wanted.images, torch.from_numpy(image))
    np.testing.assert_allclose(moved, wanted.images.ravel(), atol=1e-4)
    found = node("Array.from(M.oneHot(d.labels, 4))", labels=labels.ravel().tolist())
    np.testing.assert_array_equal(found, (labels.reshape(1, -1) == np.arange(4)[:, None]).ravel())


@in_node
def test_flip_costs_of_the_page_are_those_of_the_package():
    cohort, unet = phantom.cohort(6, size=SIZE), small_unet()
    features = []
    handle = unet.penultimate.register_forward_hook(lambda module, inputs, output: features.append(output[0]))
    unet(cohort.images[1:2])
    handle.remove()
    layer = live_data.last_layer(unet, cohort)
    costs = node("Array.from(M.flipCost(d.f, d.layer))", f=features[0].ravel().tolist(), layer=layer)
    wanted = FragilityMap().fit(unet, cohort).flip_cost(cohort.images[1:2])
    np.testing.assert_allclose(costs, wanted.ravel(), rtol=1e-2, atol=1e-3 * wanted.max())


@in_node
def test_the_page_ranks_and_bounds_as_the_package_does():
    rng = np.random.default_rng(0)
    risk, uncertainty = rng.random(36).round(3), rng.integers(12, size=36) / 12  # with ties
    values = {"risk": risk.tolist(), "u": uncertainty.tolist()}
    wanted = risk_coverage(risk, uncertainty)["selective_risk"]
    risks, excess = node("[M.selectiveRisk(d.risk, d.u), M.excessAurc(d.risk, d.u)]", **values)
    np.testing.assert_allclose(risks, wanted)
    assert excess == pytest.approx(excess_aurc(risk, uncertainty))
    promises = [(rng.normal(size=n).tolist(), level) for n, level in [(9, 0.9), (59, 0.98), (20, 0.5)]]
    both = "[M.conformalQuantile(scores, level), M.fewestCases(level)]"
    found = node(f"d.promises.map(([scores, level]) => {both})", promises=[*promises, ([1, 2, 3], 0.9)])
    for (scores, level), (quantile, fewest) in zip(promises, found, strict=False):
        assert quantile == pytest.approx(conformal_quantile(scores, level=level))
        assert fewest == smallest_calibration_size(level)
    assert found[-1] == [None, 9]  # three cases can promise nothing: not a number


def test_a_marker_becomes_a_figure_and_another_name_is_refused():
    text = "Before.\n\n<!-- live: bound -->\nA figure is on [the page](https://a.org).\n\n*Caption.*"
    page = live_figures.with_live(text)
    assert page.startswith("Before.\n\n```{raw} html")
    assert 'data-figure="bound"' in page
    assert "a.org" not in page
    assert page.endswith("```\n\n*Caption.*")
    with pytest.raises(BookError, match="no live figure 'dance'; there are: attack, bound"):
        live_figures.with_live("<!-- live: dance -->\nText.")


def test_every_figure_is_in_one_chapter_with_a_link_for_other_readers():
    chapters = {path.stem: path.read_text("utf-8") for path in LIVE.parents[1].glob("notebooks/[0-9]*.py")}
    named = [
        (name, chapter) for chapter, text in chapters.items() for name in re.findall("live: (.+) -->", text)
    ]
    assert {name for name, _ in named} == live_figures.FIGURES
    assert len(named) == len(live_figures.FIGURES)
    for _, chapter in named:
        assert f"/notebooks/{chapter}.html#live-figure)" in chapters[chapter]
    script = (LIVE / "figures.js").read_text("utf-8")
    assert all(f"{name}: [{name}, " in script for name in live_figures.FIGURES)
