import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.cohorts import phantom
from segconf_lite.models.autoencoder import ActivationAutoencoder
from segconf_lite.models.autoencoder_training import LOSSES, _Activations, fit_autoencoder
from segconf_lite.models.device import device_of, frozen
from segconf_lite.models.fit import fit_unet
from segconf_lite.models.splice import splice
from segconf_lite.models.store import fitted

SMALL = {"code": 5, "width": 3, "depth": 1}


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 14), st.integers(1, 14)),
    st.sampled_from(["plain", "denoising", "variational"]),
)
def test_the_size_follows_from_the_activation(shape, variant):
    coder = ActivationAutoencoder(shape=shape, variant=variant, **SMALL).eval()
    x = torch.randn(2, *shape)
    assert coder.encode(x).shape == (2, 5)
    assert coder(x).shape == x.shape
    torch.testing.assert_close(coder(x), coder.decode(coder.encode(x)))
    torch.testing.assert_close(coder(x)[:1], coder(x[:1]), atol=1e-5, rtol=1e-4)  # no effect of the batch


def test_sides_are_halved_at_most_twice():
    assert len(ActivationAutoencoder(shape=(4, 32, 32), **SMALL).down) == 3
    assert len(ActivationAutoencoder(shape=(4, 12, 12), **SMALL).down) == 3
    assert len(ActivationAutoencoder(shape=(4, 6, 6), **SMALL).down) == 2
    assert len(ActivationAutoencoder(shape=(4, 4, 9), **SMALL).down) == 1


def test_only_two_variants_are_random_and_only_in_train_mode():
    x = torch.randn(3, 4, 8, 8)
    for variant, random in (("plain", False), ("denoising", True), ("variational", True)):
        coder = ActivationAutoencoder(shape=(4, 8, 8), variant=variant, **SMALL).train()
        assert torch.equal(coder(x), coder(x)) is not random
        coder.eval()
        assert torch.equal(coder(x), coder(x))
        assert (coder.reconstruct(x)[1] > 0) == (variant == "variational")


def test_centre_and_scale_make_it_indifferent_to_units():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        coder = ActivationAutoencoder(shape=(4, 8, 8), **SMALL).eval()
    x = torch.randn(6, 4, 8, 8)
    coder.set_scale(x)
    plain = coder(x)
    shift = torch.arange(4.0)[:, None, None]
    coder.set_scale(50 * x + shift)
    torch.testing.assert_close(coder(50 * x + shift), 50 * plain + shift, atol=1e-3, rtol=1e-4)
    coder.set_scale(torch.ones(3, 4, 8, 8))  # nothing varies
    assert torch.isfinite(coder(x)).all()


def test_bad_arguments():
    with pytest.raises(
        ValueError,
        match=r"must be \(N, F, H, W\) with \(F, H, W\) = \(4, 8, 8\), got \(2, 4, 6, 6\); crop or pad",
    ):
        ActivationAutoencoder(shape=(4, 8, 8), **SMALL)(torch.zeros(2, 4, 6, 6))
    for options, words in (
        ({"shape": (4, 8)}, r"shape must be three integers \(F, H, W\), got \(4, 8\)"),
        ({"shape": (4, 8, 8), "code": 0}, "code must be an integer >= 1, got 0"),
        ({"shape": (4, 8, 0.5)}, r"shape\[2\] must be an integer >= 1, got 0.5"),
        ({"shape": (4, 8, 8), "code": 10**30}, r"code must be an integer <= 65536, got 10+\.*0+; no memory"),
        ({"shape": (4, 8, 8), "width": 10**30}, "width must be an integer <= 65536"),
        ({"shape": (4, 10**30, 8)}, r"shape\[1\] must be an integer <= 65536"),
        ({"shape": (4, 8, 8), "depth": 101}, r"depth must be an integer in \[1, 100\], got 101; deeper"),
        ({"shape": (4, 8, 8), "variant": "sparse"}, "variant must be one of .*got 'sparse'"),
        ({"shape": (4, 8, 8), "noise": -1.0}, "noise must be a number >= 0, got -1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            ActivationAutoencoder(**options)
    overflowing = torch.ones(2, 4, 8, 8)
    overflowing[1] = torch.inf
    with pytest.raises(ValueError, match=r"activations must be finite, .* \(first: case 1\)"):
        ActivationAutoencoder(shape=(4, 8, 8), **SMALL).set_scale(overflowing)


@pytest.fixture(scope="module")
def trained():
    cohort = phantom.cohort(24, size=32, seed=0)
    return fit_unet(cohort, steps=40, channels=(4, 6, 8), seed=0, progress=False), cohort


def test_training_learns_leaves_the_network_alone_and_repeats(trained, assert_repeats):
    # A copy: if this test fails in the middle, the others must not meet the network in train mode. Then their
    # batch norm takes other averages: on a GPU a loss of .048 was reported, and .034 recomputed.
    unet, cohort = copy.deepcopy(trained[0]), trained[1]
    unet.train().zero_grad(set_to_none=True)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    state = torch.get_rng_state()
    options = {**SMALL, "steps": 60, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}
    first, second = (fit_autoencoder(unet, cohort, progress=False, **options) for _ in range(2))
    assert unet.training
    assert all(p.requires_grad and p.grad is None for p in unet.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert_repeats(first.parameters(), second.parameters())
    assert not first.training
    assert first.history[-1]["validation_loss"] < 0.8 * first.history[0]["validation_loss"]


def test_what_is_reported_is_what_the_kept_state_gives_on_the_validation_cases(trained):
    unet, cohort = trained
    train, held_out = cohort.split((0.7, 0.3), seed=3)
    coder = fit_autoencoder(
        unet, train, validation=held_out, steps=12, precision="fp32", progress=False, **SMALL
    )
    opened = splice(unet)
    with torch.no_grad():
        logits, x, rest = opened.read(held_out.images)
        l_seg = (opened.logits(coder(x), rest) - logits).square().mean()
        l_mse = (coder(x) - x).square().mean()
    assert coder.history[-1]["L_seg"] == pytest.approx(float(l_seg), rel=1e-4)
    assert coder.history[-1]["L_mse"] == pytest.approx(float(l_mse), rel=1e-4)
    best = min(row["validation_loss"] for row in coder.history)
    assert float(l_seg + l_mse) == pytest.approx(best, rel=1e-4)


def test_each_half_of_the_loss_lowers_its_own_part(trained):
    unet, cohort = trained
    last = {}
    for loss in LOSSES:
        options = {**SMALL, "steps": 60, "batch_size": 8, "learning_rate": 1e-2, "loss": loss}
        last[loss] = fit_autoencoder(unet, cohort, progress=False, **options).history[-1]
    assert last["segmentation"]["L_seg"] < last["reconstruction"]["L_seg"]
    assert last["reconstruction"]["L_mse"] < last["segmentation"]["L_mse"]
    with pytest.raises(ValueError, match=r"loss must be one of .*got 'mse'"):
        fit_autoencoder(unet, cohort, loss="mse")


@pytest.mark.parametrize(
    "activations",
    [
        None,
        "text",
        {1},
        [[1.0]],
        np.zeros((1, 4, 8, 8), complex),
        np.ma.zeros((1, 4, 8, 8)),
        np.zeros((4, 8, 8)),
    ]
    + [np.full((1, 4, 8, 8), value) for value in (np.nan, np.inf)],
)
def test_what_is_no_activation_is_named(activations):
    coder = ActivationAutoencoder(shape=(4, 8, 8), **SMALL)
    with pytest.raises(ValueError, match=r"^activations must be"):
        coder.encode(activations)
    with pytest.raises(ValueError, match=r"^codes must be a tensor \(N, 5\), got"):
        coder.decode(activations)


def test_activations_of_every_type_have_the_same_code():
    coder, x = ActivationAutoencoder(shape=(4, 8, 8), **SMALL), np.ones((2, 4, 8, 8), np.float32)
    for other in (x, x.astype(">f8"), torch.from_numpy(x).double().requires_grad_()):
        assert torch.equal(coder.encode(other), coder.encode(torch.from_numpy(x)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cohort": None}, "cohort must be a Cohort, got NoneType"),
        ({"training": [1]}, "training must be a Training, got list"),
        ({"validation": "text"}, "validation must be a Cohort, got str"),
        ({"module": [3]}, r"the model has no module \[3\]"),
    ],
)
def test_wrong_arguments_of_the_training_are_named(trained, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_autoencoder(trained[0], **{"cohort": trained[1], **arguments})


def test_any_module_can_be_coded_and_memory_is_not_needed(trained, monkeypatch):
    unet, cohort = trained
    options = {**SMALL, "steps": 4, "precision": "fp32", "progress": False}
    cached = fit_autoencoder(unet, cohort, **options)
    assert fit_autoencoder(unet, cohort, module="encoder.0", **options).shape == (4, 32, 32)
    monkeypatch.setattr("segconf_lite.models.autoencoder_training.CACHE_BYTES", 0)
    anew = fit_autoencoder(unet, cohort, **options)
    assert all(
        torch.allclose(a, b, atol=1e-5) for a, b in zip(cached.parameters(), anew.parameters(), strict=True)
    )
    fit_autoencoder(unet, cohort, module="encoder.0", **options)


def test_the_store_knows_which_network_it_belongs_to(trained, tmp_path, monkeypatch):
    unet, cohort = trained
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    options = {**SMALL, "steps": 3, "progress": False}
    first, again = (fitted(fit_autoencoder, unet, cohort, **options) for _ in range(2))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, *first.shape)).astype(np.float32))
    x = x.to(device_of(first))
    assert torch.equal(first(x), again(x))
    assert len(list(tmp_path.glob("store/*.safetensors"))) == 1
    other = fit_unet(cohort, steps=2, channels=(4, 6, 8), seed=1, progress=False)
    fitted(fit_autoencoder, other, cohort, **options)
    assert len(list(tmp_path.glob("store/*.safetensors"))) == 2


def test_what_does_not_fit_into_memory_is_not_collected_and_computed_alike(trained, monkeypatch):
    unet, cohort = trained
    index = torch.arange(len(cohort)).split(32)[0]
    with torch.no_grad(), frozen(unet):
        kept = _Activations(splice(unet), cohort, use_bf16=False)
        monkeypatch.setattr("segconf_lite.models.autoencoder_training.CACHE_BYTES", 0)
        anew = _Activations(splice(unet), cohort, use_bf16=False)
        (rest, logits), (again, same) = (part.rest_and_logits(index) for part in (kept, anew))
    assert kept._kept
    assert not anew._kept
    assert torch.equal(kept.activations, anew.activations)
    assert torch.equal(logits, same)
    assert all(torch.equal(one, other) for one, other in zip(rest, again, strict=True))
