"""What comes in from outside: refused with a clear message, or it gives the right result."""

import numpy as np
import pytest
import torch
from torch import nn

from segconf_lite.cohorts import phantom
from segconf_lite.fragility import (
    FragilityMap,
    HeadSearch,
    MaskSearch,
    PixelSearch,
    TangentSearch,
    WeightNoise,
    check_closed_form,
    decompose,
    geometry_ring,
    penalty_set,
    polish,
    search_masks,
    search_pixels,
    stratified_pixels,
)
from segconf_lite.fragility.decomposition import effective_sample_size, posterior_weights
from segconf_lite.fragility.tangent import choose_weights

PIXELS = np.array([[0, 3, 3], [1, 8, 8]])
ONE_STEP = PixelSearch(modules=("head",), steps=2, n_penalty=2)
DILATED = MaskSearch(steps=1, targets=("dilated",), n_penalty=2)
SEARCHES = {
    "head": HeadSearch(),
    "tangent": TangentSearch(modules=("head",), n_draws=1, n_slices=2),
    "pixel": ONE_STEP,
    "mask": DILATED,
}


class Returning(nn.Module):
    """A small network whose logits go through a function before they are returned."""

    def __init__(self, change):
        super().__init__()
        self.features, self.head, self.change = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 1), change

    def forward(self, images):
        return self.change(self.head(self.features(images)))


@pytest.fixture(scope="module")
def cases():
    return phantom.cohort(3, size=16)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Returning(lambda logits: logits).eval()


def questions(network, cases):
    """Everything that takes images, by name."""
    fitted = {
        name: FragilityMap(search=search, budget=0.01, batch_size=2).fit(network, cases)
        for name, search in SEARCHES.items()
    }
    penalty = penalty_set(network, cases, n_images=2)
    asked = {name: method.flip_cost for name, method in fitted.items() if name != "pixel"}
    return asked | {
        "uncertainty": fitted["head"].uncertainty,
        "parts": lambda x: fitted["mask"].decompose(x).total,
        "one case": lambda x: search_masks(network, x[0], penalty, DILATED, budget=0.1).rises,
        "some pixels": lambda x: search_pixels(network, x, PIXELS, cases, ONE_STEP).cost,
        "solver": lambda x: torch.from_numpy(check_closed_form(network, cases, x, PIXELS, n_training=40)[0]),
    }


def test_an_image_that_is_not_finite_or_no_array_is_refused_by_every_search(network, cases):
    spoiled = cases.images.copy()
    spoiled[0, 0, 2, 2] = np.nan
    endless = cases.images.astype(np.float64)
    endless[0, 0, 5, 5] = np.inf
    sparse, shapes_only = torch.from_numpy(cases.images).to_sparse(), torch.empty(3, 1, 16, 16, device="meta")
    for name, ask in questions(network, cases).items():
        for images in (spoiled, torch.from_numpy(endless)):
            with pytest.raises(ValueError, match=r"images? must be finite, got NaN or infinity in 1 cases"):
                ask(images)
        for images in (cases.images.tolist(), sparse, shapes_only, cases.images.astype(complex)):
            with pytest.raises(ValueError, match=r"images? must be "):
                pytest.fail(f"{name} gave {ask(images)}")


def test_every_kind_of_array_gives_the_same_costs(network, cases):
    images = cases.images.astype(np.float16).astype(np.float32)  # exact in half precision
    tensor = torch.from_numpy(images)
    kinds = {
        "float16": images.astype(np.float16),
        "float64": images.astype(np.float64),
        "big-endian": images.astype(">f4"),
        "reversed": np.ascontiguousarray(images[:, :, ::-1])[:, :, ::-1],
        "gradient": tensor.clone().requires_grad_(),
        "channels last": tensor.to(memory_format=torch.channels_last),
    }
    for name, ask in questions(network, cases).items():
        expected = ask(images)
        assert not expected.requires_grad
        for kind, same in kinds.items():
            torch.testing.assert_close(ask(same), expected, msg=f"{name}, {kind}", rtol=1e-3, atol=1e-6)
        assert not ask(tensor.bfloat16()).isnan().any()


@pytest.mark.parametrize(
    "change",
    {
        "one channel": lambda z: z[:, :1],
        "a tuple": lambda z: (z, z),
        "a dictionary": lambda z: {"first": z, "second": z},
        "probabilities": lambda z: z.softmax(dim=1),
        "an extra axis": lambda z: z[:, None],
        "half the size": lambda z: z[..., ::2, ::2],
        "labels": lambda z: z.argmax(dim=1),
        "infinite": lambda z: z * torch.tensor(float("inf")),
    }.values(),
)
def test_what_is_no_logits_is_refused_before_anything_is_searched(change, cases):
    network = Returning(change)
    for search in SEARCHES.values():
        with pytest.raises(ValueError, match="the network's output must be"):
            FragilityMap(search=search).fit(network, cases).flip_cost(cases.images[:1])
    for act in (
        lambda: penalty_set(network, cases, n_images=2),
        lambda: polish(network, cases, steps=1),
        lambda: check_closed_form(network, cases, cases.images, PIXELS, n_training=20),
        lambda: WeightNoise(budget=0.1, n_samples=2, n_penalty=2).fit(network, cases),
    ):
        with pytest.raises(ValueError, match="the network's output must be"):
            act()


@pytest.mark.parametrize("change", [torch.Tensor.detach, lambda z: torch.from_numpy(z.detach().numpy())])
def test_a_network_without_a_gradient_does_not_look_robust(change, cases):
    network = Returning(change)
    penalty = penalty_set(network, cases, n_images=2)
    for act in (
        lambda: search_masks(network, cases.images[0], penalty, DILATED, budget=0.1),
        lambda: search_masks(network, cases.images[0], penalty, MaskSearch.published(), budget=0.1),
        lambda: search_pixels(network, cases.images, PIXELS, cases, ONE_STEP),
        lambda: FragilityMap(search=SEARCHES["tangent"]).fit(network, cases),
        lambda: polish(network, cases, steps=1),
    ):
        with pytest.raises(ValueError, match="differentiable in its weights, got logits without gradient"):
            act()


class WithoutWeights(nn.Module):
    def forward(self, images):
        return torch.cat([images, -images, 0 * images, 0 * images], dim=1)


def test_a_network_without_weights_is_refused(cases):
    network = WithoutWeights()
    penalty = penalty_set(network, cases, n_images=2)
    for act in (
        lambda: search_masks(network, cases.images[0], penalty, DILATED, budget=0.1),
        lambda: search_pixels(network, cases.images, PIXELS, cases, PixelSearch(steps=1)),
    ):
        with pytest.raises(ValueError, match="no weights in a module ''"):
            act()
    with pytest.raises(ValueError, match="differentiable in its weights"):
        polish(network, cases, steps=1)


def test_a_last_layer_that_does_not_return_the_logits_is_refused(cases):
    for network in (Returning(lambda z: 2 * z), Returning(lambda z: z.log_softmax(dim=1))):
        with pytest.raises(ValueError, match="the logits are not what the last layer returned"):
            FragilityMap().fit(network, cases)


def test_labels_that_the_network_does_not_know_are_refused(cases):
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1))
    for act in (
        lambda: penalty_set(network, cases, n_images=3),
        lambda: polish(network, cases, steps=1),
        lambda: search_pixels(network, cases.images, PIXELS, cases, PixelSearch(steps=1)),
    ):
        with pytest.raises(ValueError, match=r"labels of the cohort must be in 0\.\.2 \(3 classes\)"):
            act()


@pytest.mark.parametrize("wrong", [True, 1.5, "3", None, -1, [1], float("nan")])
def test_a_count_or_seed_is_an_integer(wrong, network, cases):
    for act, names in {
        PixelSearch: ("steps", "n_penalty", "seed"),
        TangentSearch: ("n_draws", "n_slices", "seed"),
        MaskSearch: ("steps", "reach_px", "n_penalty", "seed"),
        lambda **counts: penalty_set(network, cases, **{"n_images": 2, **counts}): ("n_images", "seed"),
        lambda **counts: polish(network, cases, **counts): ("steps",),
        lambda **counts: WeightNoise(budget=0.1, **counts): ("n_samples", "n_penalty"),
        lambda **counts: geometry_ring(cases.labels, **{"n_classes": 4, **counts}): ("n_classes", "reach_px"),
        lambda **counts: stratified_pixels(cases.labels, **{"n_each": 2, **counts}): ("n_each", "seed"),
        lambda **counts: check_closed_form(network, cases, cases.images, PIXELS, **counts): ("n_training",),
    }.items():
        for name in names:
            with pytest.raises(ValueError, match=f"{name} must be an integer"):
                act(**{name: wrong})


def test_integers_of_numpy_and_torch_are_integers():
    for three in (np.int64(3), np.uint8(3), torch.tensor(3)):
        assert PixelSearch(steps=three, seed=three) == PixelSearch(steps=3, seed=3)
        assert MaskSearch(steps=three, learning_rate=np.float32(0.5)) == MaskSearch(
            steps=3, learning_rate=0.5
        )
        assert TangentSearch(seed=three, modules=["head"]) == TangentSearch(seed=3, modules=("head",))


@pytest.mark.parametrize("wrong", [True, "1", -1, float("nan"), float("-inf"), [1.0], 1j])
def test_a_budget_or_rate_is_a_finite_number(wrong, network, cases):
    penalty = penalty_set(network, cases, n_images=2)
    for act, names in {
        PixelSearch: ("learning_rate", "prior_sd", "memory_mib"),
        TangentSearch: ("damping",),
        HeadSearch: ("damping",),
        MaskSearch: ("learning_rate", "temperature", "multiplier"),
        WeightNoise: ("budget",),
        FragilityMap: ("budget",),
        lambda budget: search_masks(network, cases.images[0], penalty, DILATED, budget=budget): ("budget",),
        lambda temperature: posterior_weights(torch.zeros(2), temperature=temperature): ("temperature",),
    }.items():
        for name in names:
            with pytest.raises(ValueError, match=f"{name} must be (a|one) "):
                act(**{name: wrong})


@pytest.mark.parametrize("wrong", [(), "head", None, 3, ("", 1), {"head"}])
def test_modules_are_a_list_of_names(wrong, network):
    for act in (lambda m: PixelSearch(modules=m), lambda m: choose_weights(network, m)):
        with pytest.raises(ValueError, match="modules must be one or more names"):
            act(wrong)


def test_labels_are_integers_of_any_type(cases):
    labels = cases.labels
    ring, pixels = geometry_ring(labels, n_classes=4), stratified_pixels(labels, n_each=2)
    for same in (
        labels.astype(np.uint8),
        labels.astype(">i4"),
        labels.astype(np.float32),
        torch.from_numpy(labels),
        np.ascontiguousarray(labels[:, ::-1])[:, ::-1],
        labels.tolist(),
    ):
        assert geometry_ring(same, n_classes=4).equal(ring)
        assert stratified_pixels(same, n_each=2).equals(pixels)
    for wrong in (
        labels + 0.5,
        labels - 1,
        labels.astype(complex),
        labels.astype(str),
        labels * np.nan,
        None,
    ):
        for act in (lambda x: geometry_ring(x, n_classes=4), lambda x: stratified_pixels(x, n_each=2)):
            with pytest.raises(ValueError, match="labels must be"):
                act(wrong)


def test_a_reach_beyond_the_image_ends(cases):
    ring = geometry_ring(cases.labels, n_classes=4, reach_px=16)
    assert geometry_ring(cases.labels, n_classes=4, reach_px=10**9).equal(ring)


def test_pixels_are_integers_within_the_images(network, cases):
    for wrong in (
        PIXELS + 0.5,
        PIXELS - 4,
        PIXELS + 9,
        PIXELS * np.nan,
        PIXELS.astype(str),
        PIXELS[:0],
        None,
    ):
        with pytest.raises(ValueError, match="pixels must be"):
            search_pixels(network, cases.images, wrong, cases, ONE_STEP)
    cost = search_pixels(network, cases.images, PIXELS, cases, ONE_STEP).cost
    for same in (PIXELS.tolist(), PIXELS.astype(np.uint8), torch.from_numpy(PIXELS).float()):
        assert search_pixels(network, cases.images, same, cases, ONE_STEP).cost.equal(cost)


def test_a_start_is_of_the_same_pixels(network, cases):
    for wrong in (3, {"head.weight": "x"}, {"head.weight": torch.zeros(1, 4, 3, 1, 1)}):
        with pytest.raises(ValueError, match=r"start.* must be"):
            search_pixels(network, cases.images, PIXELS, cases, ONE_STEP, start=wrong)


def test_decompose_takes_probabilities_of_any_float_type_and_nothing_else():
    samples = torch.rand(3, 2, 4, 5, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=2)
    total = decompose(samples).total
    for kind, tolerance in {torch.float64: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}.items():
        found = decompose(samples.to(kind).requires_grad_(), reference=samples[0].to(kind), setting="b").total
        assert found.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
        found = decompose(samples.to(kind)).total.float()
        torch.testing.assert_close(found, total, rtol=0, atol=tolerance)
    assert decompose(samples.numpy()[:, :, :, ::-1].copy()[:, :, :, ::-1].astype(">f4")).total.equal(total)
    for wrong in (2 * samples, samples - 1, samples * np.nan, samples[:, :, :1] * 0 + 1, "x", None):
        with pytest.raises(ValueError, match="samples must be"):
            decompose(wrong)


def test_weights_are_probabilities_over_the_samples():
    for wrong in ([-1, 1, 1], [1, 1, 1], [np.nan, 0, 1], "abc", [None, 0.5, 0.5], np.ones((3, 2, 1)) / 3):
        with pytest.raises(ValueError, match="weights must be"):
            effective_sample_size(wrong)
    for same in ([0.25, 0.75], np.array([0.75, 0.25], ">f8")[::-1], torch.tensor([0.25, 0.75]).bfloat16()):
        assert float(effective_sample_size(same)) == pytest.approx(1.6)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-40])
def test_a_tiny_temperature_leaves_the_best_model(temperature):
    weights = posterior_weights(torch.tensor([0.1, -0.5, 0.2]), temperature=temperature)
    assert weights.tolist() == [0, 1, 0]


def test_a_network_that_is_certain_of_everything_has_no_tangent(cases):
    network = Returning(lambda z: z)
    with torch.no_grad():
        network.head.bias[:] = torch.tensor([200.0, 0, 0, 0])
    with pytest.raises(ValueError, match="a network whose loss has curvature in these weights"):
        FragilityMap(search=SEARCHES["tangent"]).fit(network, cases)
