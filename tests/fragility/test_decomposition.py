import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segconf_lite.confidence.sampling import summarise_samples
from segconf_lite.fragility.decomposition import decompose, effective_sample_size, posterior_weights


def answers(seed=0, n_samples=5, zeros=False):
    """(S, 2, 3, 4, 4) probabilities; with zeros, a third of the classes have none at all."""
    rng = np.random.default_rng(seed)
    raw = rng.gamma(0.3, size=(n_samples, 2, 3, 4, 4)) + 1e-6
    if zeros:
        raw[:, :, 0][rng.random((n_samples, 2, 4, 4)) < 0.7] = 0
        raw[:, :, 1][rng.random((n_samples, 2, 4, 4)) < 0.3] = 0
    return torch.from_numpy((raw / raw.sum(axis=2, keepdims=True)).astype(np.float32))


@given(seed=st.integers(0, 99), zeros=st.booleans(), setting=st.sampled_from("ab"))
@settings(max_examples=30, deadline=None)
def test_the_parts_sum_to_the_total_and_are_not_negative(seed, zeros, setting):
    samples = answers(seed, zeros=zeros)
    weights = posterior_weights(torch.rand(5, generator=torch.Generator().manual_seed(seed)), temperature=0.3)
    found = decompose(samples, weights=weights, reference=answers(seed + 1, 1, zeros)[0], setting=setting)
    assert all(part.shape == (2, 4, 4) and (part >= 0).all() for part in found)
    assert found.aleatoric + found.epistemic == pytest.approx(found.total, abs=1e-6, rel=1e-6)


def test_the_two_settings_in_plain_numpy():
    samples, own = answers(), answers(1, 1)[0]
    p, q = samples.numpy().astype(float), own.numpy().astype(float)
    weights = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    weighted = torch.from_numpy(weights)
    entropy = lambda x: -(x * np.log(x)).sum(axis=-3)  # noqa: E731
    mean = np.einsum("s,sbchw->bchw", weights, p)
    each = np.einsum("s,sbhw->bhw", weights, entropy(p))
    assert decompose(samples, weights=weighted).total.numpy() == pytest.approx(entropy(mean), abs=1e-5)
    assert decompose(samples, weights=weighted).aleatoric.numpy() == pytest.approx(each, abs=1e-5)
    apart = np.einsum("s,sbhw->bhw", weights, (q * np.log(q / p)).sum(axis=2))
    found = decompose(samples, weights=weighted, reference=own, setting="b")
    assert found.aleatoric.numpy() == pytest.approx(entropy(q), abs=1e-5)
    assert found.epistemic.numpy() == pytest.approx(apart, abs=1e-5)


def test_setting_a_is_the_summary_of_samples_in_nats():
    samples = answers()
    summary, found = summarise_samples(samples), decompose(samples)
    assert found.epistemic / np.log(3) == pytest.approx(summary.mutual_information, abs=1e-5)
    assert found.total / np.log(3) == pytest.approx(summary.entropy, abs=1e-5)


@pytest.mark.parametrize("zeros", [False, True])
def test_equal_answers_have_no_doubt_between_them(zeros):
    one = answers(zeros=zeros)[:1]
    weights = posterior_weights(torch.arange(4.0), temperature=1.0)
    for setting in "ab":
        found = decompose(one.expand(4, -1, -1, -1, -1), weights=weights, reference=one[0], setting=setting)
        assert found.epistemic.max() <= 1e-12


@pytest.mark.parametrize("setting", ["a", "b"])
def test_the_order_of_the_answers_is_nothing(setting):
    samples, own = answers(zeros=True), answers(1, 1)[0]
    weights, order = posterior_weights(torch.rand(5, 2), temperature=0.5), torch.randperm(5)
    one = decompose(samples, weights=weights, reference=own, setting=setting)
    other = decompose(samples[order], weights=weights[order], reference=own, setting=setting)
    assert torch.stack(one) == pytest.approx(torch.stack(other), abs=1e-6)


def test_weights_per_case_are_those_of_each_case_alone():
    samples, weights = answers(), posterior_weights(torch.rand(5, 2), temperature=0.5)
    together = decompose(samples, weights=weights).epistemic
    for k in range(2):
        alone = decompose(samples[:, k : k + 1], weights=weights[:, k]).epistemic[0]
        assert together[k] == pytest.approx(alone, abs=1e-7)


def test_two_certain_answers_that_differ():
    samples = torch.eye(2)[:, None, :, None, None]
    found = decompose(samples)
    assert found.epistemic.item() == pytest.approx(np.log(2))
    assert found.aleatoric.item() == 0
    # A certain answer that is wrong costs as much as the clamp lets it.
    found = decompose(samples[:1], reference=samples[1], setting="b")
    assert found.total.item() == pytest.approx(-np.log(1e-8), rel=1e-6)


@pytest.mark.parametrize("shape", [(7,), (7, 3)])
def test_high_temperature_weighs_all_alike_and_low_only_the_best(shape):
    rises = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    even, sharp = posterior_weights(rises, temperature=1e6), posterior_weights(rises, temperature=1e-6)
    assert even == pytest.approx(torch.full(shape, 1 / 7), abs=1e-6)
    assert effective_sample_size(even).numpy() == pytest.approx(7, abs=1e-3)
    assert sharp.argmax(dim=0).equal(rises.argmin(dim=0))
    assert effective_sample_size(sharp).numpy() == pytest.approx(1)
    assert posterior_weights(rises, temperature=0.1).sum(dim=0).numpy() == pytest.approx(1)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match=r"temperature must be a (finite )?number > 0, got"):
        posterior_weights(torch.zeros(3), temperature=temperature)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"setting": "c"}, "setting must be one of"),
        ({"setting": "b"}, r"reference must be of shape \(2, 3, 4, 4\) in setting 'b', got None"),
        ({"weights": torch.full((5,), 1.0)}, "sum 1 over S"),
        ({"weights": torch.tensor([2.0, -1, 0, 0, 0])}, ">= 0"),
        ({"weights": torch.full((4,), 0.25)}, r"must be \(5,\)"),
        ({"samples": torch.ones(2, 3, 4, 4)}, r"\(S, B, C, H, W\), got \(2, 3, 4, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    options = {"samples": answers(), **changes}
    with pytest.raises(ValueError, match=words):
        decompose(options.pop("samples"), **options)


def test_rises_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="rises must be finite"):
        posterior_weights(torch.tensor([0.0, float("nan")]), temperature=1.0)
