import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from segconf_lite.models import fitted
from segconf_lite.models.segmenter import KINDS, SEGMENTER_NORMS, Segmenter
from segconf_lite.models.unet import predict_probabilities

every_kind = pytest.mark.parametrize("kind", KINDS)
every_norm = pytest.mark.parametrize("norm", SEGMENTER_NORMS)


def make(kind, norm="batch", *, n_classes=3, channels=(8, 12), size=32, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Segmenter(kind=kind, n_classes=n_classes, norm=norm, channels=channels, size=size)


@every_kind
@every_norm
def test_every_norm_over_feature_maps_is_of_the_asked_kind(kind, norm):
    wanted = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}[norm]
    norms = [m for m in make(kind, norm).modules() if "norm" in type(m).__name__.lower()]
    others = {type(m) for m in norms} - {wanted}
    assert others == ({nn.LayerNorm} if kind == "unetr" else set())
    maps = [m for m in norms if isinstance(m, _NormBase)]
    assert len(maps) >= 5
    assert all(m.affine for m in maps)
    assert all(m.track_running_stats == (norm == "batch") for m in maps)


@every_kind
def test_both_norms_have_the_same_parameters(kind):
    one, other = (
        [(name, tuple(p.shape)) for name, p in make(kind, norm).named_parameters()]
        for norm in SEGMENTER_NORMS
    )
    assert one == other


@every_kind
@every_norm
def test_what_a_case_gets_depends_on_its_batch_in_no_norm_once_in_eval_mode(kind, norm):
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    segmenter = make(kind, norm)
    with torch.no_grad():
        segmenter.train()(images)
        together, alone = segmenter.eval()(images), segmenter.eval()(images[1:2])
        brighter = segmenter(images + 5)
    assert together.shape == (3, 3, 32, 32)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)
    assert (brighter - together).abs().max() > 1e-3


@every_kind
def test_takes_numpy_of_any_float_type_and_flipped_views(kind):
    segmenter = make(kind).eval()
    images = np.random.default_rng(0).normal(size=(2, 1, 32, 32))[..., ::-1]
    expected = segmenter(torch.from_numpy(images.copy()).float()).softmax(dim=1)
    torch.testing.assert_close(segmenter(images).softmax(dim=1), expected)
    torch.testing.assert_close(predict_probabilities(segmenter, images), expected)


@every_kind
@every_norm
def test_config_is_json_and_rebuilds_the_architecture(kind, norm):
    segmenter = make(kind, norm)
    again = Segmenter(**json.loads(json.dumps(segmenter.config)))
    again.load_state_dict(segmenter.state_dict())
    assert again.config == segmenter.config
    assert again.n_classes == 3
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(segmenter.eval()(images), again.eval()(images))


@every_kind
def test_is_stored_and_read_back_bit_for_bit(kind, disc_cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    cohort = disc_cohort(4)

    def fit(cohort, kind):
        segmenter = make(kind, n_classes=2)
        segmenter.train()(cohort.images)  # moves the running statistics
        segmenter.history = [{"step": 1, "train_loss": 0.5}]
        return segmenter

    first, second = fitted(fit, cohort, kind), fitted(fit, cohort, kind)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert torch.equal(first(cohort.images), second(cohort.images))
    assert second.history == first.history
    assert not second.training


@every_kind
@every_norm
def test_a_few_steps_lower_the_loss(kind, norm, disc_cohort):
    cohort, segmenter = disc_cohort(8), make(kind, norm, n_classes=2)
    optimiser, labels = torch.optim.Adam(segmenter.parameters(), lr=1e-2), torch.from_numpy(cohort.labels)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(segmenter(cohort.images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_only_the_unetr_is_bound_to_its_window():
    for kind in ("unet", "attention"):
        assert make(kind, size=None)(torch.zeros(1, 1, 40, 24)).shape == (1, 3, 40, 24)
    with pytest.raises(
        ValueError, match=r"images of this unetr must be 32 x 32 pixels only .* got \(48, 48\); cut windows"
    ):
        make("unetr")(torch.zeros(1, 1, 48, 48))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 32.0}, "size must be an integer >= 1, got 32.0"),
        ({"size": 10**30}, "size must be an integer <= 65536"),
        ({"n_classes": 10**30}, "n_classes must be an integer <= 65536"),
        ({"in_channels": 10**30}, "in_channels must be an integer <= 65536"),
        ({"spatial_dims": True}, "spatial_dims must be an integer"),
        ({"kind": "vnet"}, "kind must be one of .*'vnet'"),
        ({"norm": "group"}, r"norm must be one of .*'mixed'.*, got 'group'"),
        ({"n_classes": 1}, "n_classes must be an integer >= 2, got 1; the background"),
        ({"channels": (8,)}, "channels must be two or more"),
        ({"kind": "unetr"}, "size of a unetr must be a multiple of 16, .* got None; e.g. size=16"),
        ({"kind": "unetr", "size": 40}, "got 40; e.g. size=32"),
        (
            {"kind": "unetr", "size": 32, "channels": (6, 8)},
            r"channels\[0\] of a unetr must be divisible by 4, .* got 6",
        ),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        Segmenter(**({"kind": "attention", "n_classes": 2} | changed))


@every_kind
def test_wrong_images_are_named(kind):
    segmenter = make(kind)
    with pytest.raises(ValueError, match=r"must be non-empty .N, 1, H, W., got"):
        segmenter(torch.zeros(2, 32, 32))
    with pytest.raises(ValueError, match=r"write adapt\(network, channels=\(0,\)\)"):
        segmenter(torch.zeros(2, 2, 32, 32))
    if kind != "unetr":
        with pytest.raises(ValueError, match="H, W of images must be divisible by 2"):
            segmenter(torch.zeros(1, 1, 33, 32))


@every_kind
@every_norm
def test_volumes_have_the_same_norm_throughout_and_keep_their_size(kind, norm):
    segmenter = Segmenter(kind=kind, n_classes=2, norm=norm, channels=(8, 12), size=16, spatial_dims=3)
    wanted = {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d}[norm]
    norms = {type(m) for m in segmenter.modules() if "norm" in type(m).__name__.lower()}
    assert norms - {nn.LayerNorm} == {wanted}
    segmenter.eval()
    assert segmenter(torch.zeros(2, 1, 16, 16, 16)).shape == (2, 2, 16, 16, 16)
    again = Segmenter(**json.loads(json.dumps(segmenter.config)))
    again.load_state_dict(segmenter.state_dict())
    volumes = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(segmenter(volumes), again.eval()(volumes))


@every_kind
def test_wrong_volumes_are_named(kind):
    segmenter = Segmenter(kind=kind, n_classes=2, channels=(8, 12), size=16, spatial_dims=3)
    with pytest.raises(ValueError, match=r"must be non-empty .N, 1, D, H, W., got \(2, 1, 16, 16\)"):
        segmenter(torch.zeros(2, 1, 16, 16))
    expected = "16 x 16 x 16 pixels only" if kind == "unetr" else "D, H, W of images must be divisible by 2"
    with pytest.raises(ValueError, match=expected):
        segmenter(torch.zeros(1, 1, 16, 16, 17))


def test_other_dimensions_are_refused():
    with pytest.raises(
        ValueError, match=r"spatial_dims must be an integer in \[2, 3\], got 4; 2 for slices, 3 for volumes"
    ):
        Segmenter(kind="unet", n_classes=2, spatial_dims=4)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_mixed_norms_are_those_of_the_published_attention_network(spatial_dims):
    mixed = Segmenter(
        kind="attention", n_classes=2, norm="mixed", channels=(8, 12), spatial_dims=spatial_dims
    )
    merges = [m for n, m in mixed.network.named_modules() if "merge" in n and isinstance(m, _NormBase)]
    others = [m for n, m in mixed.network.named_modules() if "merge" not in n and isinstance(m, _NormBase)]
    assert merges
    assert others
    assert all(type(m).__name__.startswith("InstanceNorm") for m in merges)
    assert all(type(m).__name__.startswith("BatchNorm") for m in others)
    with pytest.raises(ValueError, match=r"norm must be one of \('batch', 'instance'\), got 'mixed'"):
        Segmenter(kind="unet", n_classes=2, norm="mixed", spatial_dims=spatial_dims)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_instance_norm_over_one_pixel_is_named(spatial_dims):
    one = Segmenter(kind="unet", n_classes=2, norm="instance", channels=(8, 12), spatial_dims=spatial_dims)
    with pytest.raises(ValueError, match="an instance norm needs two pixels on the coarsest level"):
        one.eval()(torch.zeros(1, 1, *[2] * spatial_dims))
    assert one(torch.zeros(1, 1, *[4] * spatial_dims)).shape[2:] == (4,) * spatial_dims
