import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from segconf_lite.models.fit import fit_unet
from segconf_lite.models.training import Training, optimise, shuffled_batches
from segconf_lite.models.unet import predict_probabilities

TINY = {"channels": (4, 8), "batch_size": 8, "device": "cpu", "precision": "fp32"}
SMALL = {**TINY, "channels": (8, 16, 16)}


def disc_dice(unet, cohort):
    predicted = predict_probabilities(unet, cohort.images).argmax(dim=1).numpy() == 1
    reference = cohort.labels == 1
    overlap, size = (predicted & reference).sum((1, 2)), predicted.sum((1, 2)) + reference.sum((1, 2))
    return float((2 * overlap / size).mean())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_a_disc_and_bf16_agrees(disc_cohort, precision):
    unet = fit_unet(disc_cohort(), steps=60, **{**SMALL, "precision": precision})
    assert disc_dice(unet, disc_cohort(seed=1)) > 0.95
    assert next(unet.parameters()).dtype == torch.float32


def test_bf16_ends_near_fp32(disc_cohort):
    losses = [
        fit_unet(disc_cohort(), steps=60, **{**SMALL, "precision": p}).history[-1]["validation_loss"]
        for p in ("fp32", "bf16")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.15)


@pytest.mark.parametrize("augmentation", ["mild", "nnunet"])
def test_it_learns_with_augmentation(disc_cohort, augmentation):
    unet = fit_unet(disc_cohort(), steps=80, augmentation=augmentation, **SMALL)
    assert disc_dice(unet, disc_cohort(seed=1)) > 0.9


def test_it_returns_a_trainable_network_in_eval_mode_with_its_history(disc_cohort):
    unet = fit_unet(disc_cohort(), steps=24, norm="group", skips=False, dropout=0.1, **TINY)
    assert not unet.training
    assert all(p.requires_grad for p in unet.parameters())
    assert (unet.config["norm"], unet.config["skips"], unet.config["dropout"]) == ("group", False, 0.1)
    assert [h["step"] for h in unet.history] == list(range(2, 25, 2))
    assert all(set(h) == {"step", "train_loss", "validation_loss", "seconds"} for h in unet.history)
    seconds = [h["seconds"] for h in unet.history]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 10, 13])
def test_any_number_of_steps_ends_with_a_check(disc_cohort, steps):
    assert fit_unet(disc_cohort(4), steps=steps, patience=99, **TINY).history[-1]["step"] == steps


def test_a_read_only_cohort_is_fine(disc_cohort, recwarn):
    cohort = disc_cohort(8)
    cohort.images.setflags(write=False)
    cohort.labels.setflags(write=False)
    predict_probabilities(fit_unet(cohort, steps=2, **TINY), cohort.images)
    assert not [w for w in recwarn if "writable" in str(w.message)]


def test_the_global_random_state_is_left_alone(disc_cohort):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit_unet(disc_cohort(8), steps=2, dropout=0.3, augmentation="nnunet", **TINY)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@pytest.mark.parametrize("augmentation", [None, "mild", "nnunet"])
def test_the_global_random_state_does_not_matter_but_the_seed_does(disc_cohort, augmentation):
    def probabilities(seed):
        torch.rand(5)  # moves the global state
        unet = fit_unet(disc_cohort(8), steps=6, dropout=0.3, augmentation=augmentation, seed=seed, **TINY)
        return predict_probabilities(unet, disc_cohort(4, seed=1).images)

    first, again, other = probabilities(1), probabilities(1), probabilities(2)
    torch.testing.assert_close(first, again, rtol=0, atol=1e-5)
    assert not torch.allclose(first, other, atol=1e-3)


def test_equal_seeds_give_equal_losses_in_another_process():
    program = (
        "from segconf_lite.cohorts import phantom; from segconf_lite.models import fit_unet; "
        "u = fit_unet(phantom.cohort(16, size=32), steps=12, channels=(4, 8), batch_size=8, "
        "dropout=0.2, augmentation='mild', device='cpu'); print(u.history[-1]['validation_loss'])"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    (first, noise), (second, _) = (run.communicate(timeout=300) for run in runs)
    assert float(first) == pytest.approx(float(second), abs=1e-4)
    assert "it/s" not in noise  # no progress bar where nobody watches


def test_progress_is_shown_where_asked_for(disc_cohort, capsys, monkeypatch):
    fit_unet(disc_cohort(8), steps=2, progress=True, **TINY)
    assert "2/2" in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("SEGCONF_QUIET", "1")
    fit_unet(disc_cohort(8), steps=2, **TINY)
    assert capsys.readouterr().err == ""


def test_own_validation_cohort_frees_a_single_subject(disc_cohort):
    one = disc_cohort(6, cases_per_subject=6)
    with pytest.raises(
        ValueError,
        match=r"validation must be given for a cohort of one subject, .* needs 2, got None; pass validation=",
    ):
        fit_unet(one, steps=2, **TINY)
    assert len(fit_unet(one, validation=disc_cohort(70, seed=1), steps=2, **TINY).history) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, r"steps must be an integer >= 1, got 0"),
        ({"batch_size": 2.5}, r"batch_size must be an integer >= 1, got 2\.5"),
        ({"learning_rate": math.nan}, r"learning_rate must be a finite number > 0, got nan"),
        ({"stepps": 3}, r"a setting of a training must be one of .*got 'stepps'"),
        ({"precision": "fp16"}, r"precision must be one of .*got 'fp16'"),
        ({"augmentation": "strong"}, "augmentation must be one of .*got 'strong'"),
        ({"device": "tpu"}, "device must be one of .*got 'tpu'"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"cohort": None}, "cohort must be a Cohort, got NoneType"),
        ({"cohort": [1]}, "cohort must be a Cohort, got list"),
        ({"validation": 3}, "validation must be a Cohort, got int"),
        ({"training": None}, "training must be a Training, got NoneType"),
        ({"training": {"steps": 2}}, "training must be a Training, got dict"),
    ],
)
def test_wrong_arguments(disc_cohort, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_unet(**{"cohort": disc_cohort(4), **TINY, "steps": 2, **arguments})


def test_other_classes_in_validation(disc_cohort):
    other = dataclasses.replace(disc_cohort(4), class_names=("background", "disc", "ring"))
    with pytest.raises(
        ValueError, match=r"validation must be of the classes .*got .*disc.*ring.*; remap one"
    ):
        fit_unet(disc_cohort(4), validation=other, **TINY)


def test_a_loss_that_leaves_the_numbers_is_reported(disc_cohort):
    cohort = disc_cohort(8)
    cohort.images[:] = 3e38
    with pytest.raises(FloatingPointError, match=r"must stay finite, got nan at step 1; lower learning_rate"):
        fit_unet(cohort, steps=2, **TINY)


def test_a_running_statistic_that_overflows_is_reported(disc_cohort):
    """Every loss is finite, and afterwards the network would give one prediction for all images."""
    cohort = disc_cohort(8)
    cohort.images[:] *= 1e25
    with pytest.raises(FloatingPointError, match=r"running_var must stay finite; look for extreme intens"):
        fit_unet(cohort, steps=2, **TINY)


def test_a_program_without_a_console_trains_without_a_bar(disc_cohort, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert len(fit_unet(disc_cohort(4), steps=1, **TINY).history) == 1


def test_a_whole_training_and_its_single_settings_are_the_same(disc_cohort):
    training = Training(steps=3, batch_size=8, precision="fp32", seed=4)
    first = fit_unet(disc_cohort(8), training=training, channels=(4, 8), device="cpu")
    second = fit_unet(disc_cohort(8), **{**TINY, "steps": np.int64(3), "seed": 4})
    assert [h["train_loss"] for h in first.history] == [h["train_loss"] for h in second.history]


def test_losses_are_read_at_checks_and_the_first_bad_step_is_named():
    module, read = torch.nn.Linear(1, 1, bias=False), []

    class Loss(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.__float__):
                read.append(args[0].numel())
            return super().__torch_function__(func, types, args, kwargs or {})

    def run(scales):
        def loss(scale):
            return (module(torch.ones(1)) * scale).square().sum().as_subclass(Loss)

        training = Training(steps=len(scales), learning_rate=1e-3, patience=9)
        return optimise(module, iter(scales), loss, lambda: 1.0, training, checks=2)

    assert [check["step"] for check in run([1.0] * 8)] == [4, 8]
    assert read == [4, 4]
    with pytest.raises(FloatingPointError, match="got nan at step 6;"):
        run([1.0] * 5 + [math.nan] * 3)


def run_optimise(validation_losses, *, patience=2, steps=12, module=None):
    """Twelve checks of a module of one number; what it holds after each check is recorded."""
    module = module or torch.nn.Linear(1, 1, bias=False)
    losses, seen = iter(validation_losses), []

    def validation_loss():
        assert not module.training
        assert not torch.is_grad_enabled()
        seen.append(module.weight.item())
        return next(losses)

    def loss(x):
        return (module(x) - 100).square().mean()

    training = Training(steps=steps, learning_rate=0.1, patience=patience)
    history = optimise(module, itertools.repeat(torch.ones(1)), loss, validation_loss, training)
    return module, history, seen


def test_early_stopping_keeps_the_best_state():
    module, history, seen = run_optimise([5, 4, 1, 2, 3, 0])
    assert [h["step"] for h in history] == [1, 2, 3, 4, 5]  # two checks without a better one, then out
    assert module.weight.item() == seen[2]
    assert seen[2] != seen[-1]
    assert not module.training


def test_the_best_state_is_kept_without_an_early_stop_too():
    module, history, seen = run_optimise([5, 1, 2, 3], patience=9, steps=4)
    assert len(history) == 4
    assert module.weight.item() == seen[1]


def test_a_checked_loss_that_is_not_finite_is_reported():
    with pytest.raises(FloatingPointError, match="got inf at step 2"):
        run_optimise([1, float("inf")])


def test_frozen_parameters_stay():
    class Two(torch.nn.Linear):
        def __init__(self):
            super().__init__(1, 1, bias=True)
            self.bias.requires_grad_(False)

    module = Two()
    before = module.bias.clone()
    run_optimise([3, 2, 1], steps=3, module=module)
    assert torch.equal(module.bias, before)


@pytest.mark.parametrize(("n_cases", "batch_size"), [(10, 4), (3, 8), (4, 4), (1, 3)])
def test_batches_visit_every_case_equally_often(n_cases, batch_size):
    batches = shuffled_batches(n_cases, batch_size, torch.Generator().manual_seed(0))
    rounds = [next(batches) for _ in range(n_cases)]
    assert all(len(index) == batch_size for index in rounds)
    assert torch.cat(rounds).bincount().tolist() == [batch_size] * n_cases
