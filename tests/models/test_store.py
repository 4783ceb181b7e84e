"""One door to the store: the call is the address, and what lies there is never trusted when damaged."""

import copy
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import filelock
import numpy as np
import pytest
import safetensors.torch
import torch

from segconf_lite.artefacts import checksum
from segconf_lite.confidence.adversary import Adversary
from segconf_lite.confidence.predictor_training import fit_quality_network
from segconf_lite.models import fit_unet, store
from segconf_lite.models.store import artefact_path, fitted, fitted_each, store_folder
from segconf_lite.models.training import Training
from segconf_lite.models.unet import UNet, predict_probabilities
from segconf_lite.resources import unfinished_name

TRAINING = {"channels": (4, 6), "steps": 2, "batch_size": 4, "precision": "fp32", "device": "cpu"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path


@pytest.fixture
def cohort(disc_cohort):
    return disc_cohort(4)


def fit(cohort, *, seed=0, size=6, made_of="numbers", training=None):
    """Each call yields other weights, and is counted."""
    count = Path(os.environ["CALLS"])
    before = count.read_text() if count.exists() else ""
    count.write_text(f"{before}{seed},")
    torch.manual_seed(len(before))
    unet = UNet(n_classes=2, channels=(4, size), norm="batch")
    unet.history = [{"step": np.int64(1), "train_loss": np.float32(0.5), "validation_loss": float("nan")}]
    unet.train()(torch.randn(4, 1, 8, 8))  # moves the running statistics of the batch norm
    return unet


def calls(home):
    return [int(seed) for seed in (home / "calls").read_text().split(",")[:-1]]


def artefacts():
    return sorted(store_folder().glob("*.safetensors"))


def test_folder_follows_the_environment(monkeypatch, home):
    assert store_folder() == home / "store"
    monkeypatch.delenv("SEGCONF_HOME")
    assert store_folder().parts[-2:] == ("segconf_lite", "store")


def test_an_account_without_a_home_folder_has_a_store(monkeypatch):
    def nowhere(name):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("SEGCONF_HOME")
    monkeypatch.setattr("pooch.os_cache", nowhere)
    assert store_folder().name == "store"


def test_second_call_reads_back_the_same_bits_and_fits_nothing(cohort, home):
    first, second = fitted(fit, cohort), fitted(fit, cohort)
    assert calls(home) == [0]
    assert second is not first
    assert not first.training
    assert not second.training
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        assert value.stride() == second.state_dict()[name].stride()
    assert second.config == first.config
    assert second.history[0]["train_loss"] == 0.5
    assert np.isnan(second.history[0]["validation_loss"])
    images = cohort.images
    assert torch.equal(predict_probabilities(first, images), predict_probabilities(second, images))


def test_one_file_holds_everything_and_nothing_else_stays(cohort):
    fitted(fit, cohort)
    path = artefact_path(fit, cohort)
    assert path.name.startswith("fit-")
    assert {p.suffix for p in store_folder().iterdir()} <= {".safetensors", ".lock"}
    assert artefacts() == [path]
    with safetensors.safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["record"])
    assert record["class"] == "segconf_lite.models.unet:UNet"
    assert {"device", "precision", "threads", "torch", "python", "created"} <= record["made"].keys()


def test_the_same_call_in_other_words_is_the_same_call(cohort, home):
    fitted(fit, cohort)
    fitted(fit, cohort=cohort, size=6)
    fitted(fit, cohort, seed=np.int64(0))
    assert calls(home) == [0]
    whole = artefact_path(fit_unet, cohort, training=Training(steps=3, seed=1))
    assert artefact_path(fit_unet, cohort, steps=3, seed=1, device="cpu", progress=False) == whole


@pytest.mark.parametrize(
    "change",
    [
        {"size": 8},
        {"seed": 1},
        {"made_of": "Numbers"},
        {"training": Training()},
        {"training": Training(precision="bf16")},
        {"made_of": [1, "1"]},
        {"made_of": ["1", 1]},
        {"made_of": 1.0},
        {"made_of": True},
    ],
)
def test_every_argument_is_part_of_the_address(cohort, change):
    known = {
        artefact_path(fit, cohort, **options)
        for options in ({}, {"made_of": 1}, {"training": Training(steps=2)})
    }
    assert artefact_path(fit, cohort, **change) not in known


def test_the_cohort_counts_by_its_content(cohort, disc_cohort):
    assert artefact_path(fit, cohort) == artefact_path(fit, disc_cohort(4))
    assert artefact_path(fit, cohort) != artefact_path(fit, disc_cohort(4, seed=1))
    assert artefact_path(fit_unet, cohort, validation=cohort) != artefact_path(fit_unet, cohort)


def test_images_that_are_equal_but_for_rounding_are_one_training(cohort, home, monkeypatch):
    """Two processors simulate one image with other last digits; a pixel that was changed is another image."""
    first = fitted(fit, cohort)
    noise = np.random.default_rng(1).normal(scale=2e-6, size=cohort.images.shape)
    rounded = dataclasses.replace(cohort, images=(cohort.images + noise).astype(np.float32))
    assert artefact_path(fit, rounded) != artefact_path(fit, cohort)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(store, "_machine", lambda: "another")
        assert torch.equal(fitted(fit, rounded).head.weight, first.head.weight)
        assert calls(home) == [0]
        changed = cohort.images.copy()
        changed[1, 0, 2, 3] += 1e-3
        fitted(fit, dataclasses.replace(cohort, images=changed))
        labels = cohort.labels.copy()
        labels[0, 0, 0] = 1 - labels[0, 0, 0]
        fitted(fit, dataclasses.replace(rounded, labels=labels))
        fitted(fit, rounded, size=8)
        assert calls(home) == [0, 0, 0, 0]
        flip_a_byte(artefact_path(fit, cohort))
        with pytest.warns(UserWarning, match="is damaged"):
            fitted(fit, rounded)
        assert calls(home) == [0, 0, 0, 0, 0]


def test_on_one_computer_images_that_differ_in_the_last_digit_are_two_trainings(cohort, home):
    fitted(fit, cohort)
    nudged = cohort.images.copy()
    nudged[0, 0, 0, 0] = np.nextafter(nudged[0, 0, 0, 0], np.float32(9))
    fitted(fit, dataclasses.replace(cohort, images=nudged))
    assert calls(home) == [0, 0]


def test_what_cannot_be_read_is_refused_and_named(cohort):
    with pytest.raises(
        ValueError, match=r"made_of must be something whose content can be read.*got _?Generator"
    ):
        fitted(fit, cohort, made_of=torch.Generator())
    with pytest.raises(ValueError, match=r"fit cannot be called like this: .*sise"):
        fitted(fit, cohort, sise=3)
    with pytest.raises(ValueError, match=r"a setting of a training must be one of .*got 'stepps'"):
        fitted(fit_unet, cohort, stepps=3)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def rename_a_tensor(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"head.bias"', b'"head.baas"'))


def change_the_history(path):
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.4"))


DAMAGE = {
    "flipped": flip_a_byte,
    "renamed": rename_a_tensor,
    "edited": change_the_history,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "other": lambda path: path.write_bytes(b"[1, 2]" * 9),
    "huge header": lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
    "plain": lambda path: path.write_bytes(safetensors.torch.save(safetensors.torch.load(path.read_bytes()))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_reported_and_replaced(cohort, home, damage):
    fitted(fit, cohort)
    DAMAGE[damage](artefacts()[0])
    with pytest.warns(UserWarning, match=r"fit-\w+ in .* is damaged .*trained again and replaced") as caught:
        second = fitted(fit, cohort)
    assert caught[0].filename == __file__
    assert calls(home) == [0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = fitted(fit, cohort)
    assert calls(home) == [0, 0]
    images = cohort.images
    assert torch.equal(predict_probabilities(second, images), predict_probabilities(third, images))


def test_a_copy_under_another_address_is_refused(cohort, home):
    fitted(fit, cohort, seed=1)
    artefacts()[0].rename(artefact_path(fit, cohort, seed=2))
    with pytest.warns(UserWarning, match="it is a copy of fit-"):
        fitted(fit, cohort, seed=2)
    assert calls(home) == [1, 2]


@pytest.mark.parametrize(
    "name", ["os:system", "segconf_lite.models.store:fitted", "segconf_lite.cohorts.cohort:Cohort"]
)
def test_a_record_cannot_name_another_class(cohort, home, name):
    """Even one whose checksum was made to fit."""
    fitted(fit, cohort)
    path = artefacts()[0]
    with safetensors.safe_open(path, "pt") as file:
        record = json.dumps(json.loads(file.metadata()["record"]) | {"class": name})
    state = safetensors.torch.load(path.read_bytes())
    metadata = {"record": record, "sha256": checksum(state, record)}
    path.write_bytes(safetensors.torch.save(state, metadata))
    with pytest.warns(UserWarning, match="is not a network of this package"):
        fitted(fit, cohort)
    assert calls(home) == [0, 0]


def linear(cohort):
    return torch.nn.Linear(1, 1)


def nothing(cohort):
    return None


def broken(cohort):
    raise OSError("no disc")


def odd_history(cohort):
    unet = UNet(n_classes=2, channels=(4, 6))
    unet.history = [{"dice": np.ones(3)}]
    return unet


def frozen_and_wide(cohort):
    return UNet(n_classes=2, channels=(4, 6)).double().requires_grad_(False)


def test_what_cannot_be_stored_is_not_lost(cohort):
    for training, message in (
        (linear, r"only networks of segconf_lite .* not torch.nn.modules.linear:Linear"),
        (odd_history, "UNet could not be stored .* It is used now and trained again next time"),
    ):
        with pytest.warns(UserWarning, match=message):
            assert isinstance(fitted(training, cohort), torch.nn.Module)
    with pytest.raises(ValueError, match=r"fit must return a network, got NoneType"):
        fitted(nothing, cohort)
    assert not artefacts()


def test_a_stored_network_is_as_frozen_and_as_wide_as_the_trained_one(cohort):
    for _ in range(2):
        network = fitted(frozen_and_wide, cohort)
        assert {p.dtype for p in network.parameters()} == {torch.float64}
        assert not any(p.requires_grad for p in network.parameters())


def test_errors_of_fit_are_not_swallowed_and_free_the_lock(cohort):
    for _ in range(2):
        with pytest.raises(OSError, match="no disc"):
            fitted(broken, cohort)


def test_a_folder_that_cannot_be_made_costs_only_the_storing(cohort, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="UNet could not be stored in .*Set SEGCONF_HOME"):
        network = fitted(fit, cohort)
    assert isinstance(network, UNet)
    assert not network.training


def test_a_file_without_permission_costs_only_the_reading(cohort, home, monkeypatch):
    fitted(fit, cohort)

    def forbidden(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)
    with pytest.warns(UserWarning, match="cannot be read .*Permission denied"):
        assert isinstance(fitted(fit, cohort), UNet)
    assert calls(home) == [0, 0]


def test_a_full_disc_leaves_no_rubbish(cohort, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert isinstance(fitted(fit, cohort), UNet)
    assert not [p for p in store_folder().iterdir() if p.suffix != ".lock"]


def test_one_and_one_point_zero_are_one_call(cohort):
    plain = artefact_path(fit_unet, cohort)
    assert artefact_path(fit_unet, cohort, dropout=0, weight_decay=np.float64(0.01)) == plain
    unet, paths = UNet(n_classes=2, channels=(4, 6)), set()
    for one in (1, 1.0, np.int64(1), np.array(1.0)):
        adversary = Adversary(alpha=one, gain=one, bound=one, value_range=(-one, one), warm_up=1)
        paths.add(artefact_path(fit_quality_network, unet, cohort, adversary=adversary, learning_rate=one))
    for one in (1, 1.0):
        setting = {"target": "surface_dice", "tolerance_mm": one}
        paths.add(artefact_path(fit_quality_network, unet, cohort, **setting))
    assert len(paths) == 2


def test_what_killed_runs_left_is_swept_and_what_others_write_is_not(cohort):
    fitted(fit, cohort)
    mine, path = os.getpid(), artefact_path(fit, cohort, seed=2)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [
        Path(str(unfinished_name(path, "tmp")).replace(f".{mine}@", f".{process}@"))
        for process in (ended.pid, os.getppid())
    ]
    for unfinished in left:
        unfinished.write_bytes(b"half")
    fitted(fit, cohort, seed=1)
    assert [unfinished.exists() for unfinished in left] == [False, True]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_read_without_a_word(cohort, home):
    fitted(fit, cohort)
    [path.unlink() for path in store_folder().glob("*.lock")]
    store_folder().chmod(0o500)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted(fit, cohort)
    finally:
        store_folder().chmod(0o700)
    assert calls(home) == [0]


def test_a_file_system_without_locks_still_works(cohort, home, monkeypatch):
    def no_lock(self, *args, **kwargs):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(store.filelock.FileLock, "acquire", no_lock)
    fitted(fit, cohort)
    fitted(fit, cohort)
    assert calls(home) == [0]


def test_a_network_of_another_machine_is_used_and_says_so(cohort, home, monkeypatch):
    fitted(fit, cohort, training=Training(precision="auto"))
    elsewhere = {True: "bf16", False: "fp32"}[not Training(precision="auto").uses_bf16(torch.device("cpu"))]
    monkeypatch.setattr(Training, "uses_bf16", lambda self, device: elsewhere == "bf16")
    with pytest.warns(UserWarning, match=f"trained here it would be on cpu in {elsewhere}"):
        network = fitted(fit, cohort, training=Training(precision="auto"))
    assert calls(home) == [0]
    assert network.made["precision"] != elsewhere


def test_two_processes_at_once_fit_once(tmp_path):
    (tmp_path / "slow.py").write_text(f"""
import time, numpy as np
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models import UNet, fitted
cohort = Cohort(np.zeros((2, 1, 8, 8), 'float32'), np.zeros((2, 8, 8), 'int64'), np.array(['A', 'A']),
                np.array(['a', 'b']), np.ones((2, 2)), ('background', 'disc'))
def fit(cohort):
    with open({str(tmp_path / "calls")!r}, 'a') as calls:
        calls.write('x')
    time.sleep(2)
    return UNet(n_classes=2, channels=(4, 6))
unet = fitted(fit, cohort)
print(sum(p.sum().item() for p in unet.parameters()))
""")
    runs = [
        subprocess.Popen([sys.executable, tmp_path / "slow.py"], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    sums = {run.communicate(timeout=300)[0] for run in runs}
    assert all(run.returncode == 0 for run in runs)
    assert (tmp_path / "calls").read_text() == "x"
    assert len(sums) == 1


def test_a_stored_network_can_be_copied_and_trained_on(cohort):
    fitted(fit, cohort)
    unet = copy.deepcopy(fitted(fit, cohort))
    assert all(p.requires_grad for p in unet.parameters())


# -- several seeds ------------------------------------------------------------------------------------------


def test_networks_of_several_seeds_are_those_of_single_calls(cohort, assert_repeats):
    networks = fitted_each(fit_unet, cohort, seeds=[4, 2], validation=cohort, **TRAINING)
    n_stored = len(artefacts())
    for seed, network in zip((4, 2), networks, strict=True):
        again = fitted(fit_unet, cohort, validation=cohort, seed=seed, **TRAINING)
        alone = fit_unet(cohort, validation=cohort, **TRAINING, seed=seed)
        for other in (again, alone):
            assert_repeats(network.state_dict().values(), other.state_dict().values())
        assert not network.training
    assert len(artefacts()) == n_stored == 2


@pytest.mark.not_on_the_pretended_device(reason="it is there in one thread only")
def test_what_another_process_trains_is_left_to_it_meanwhile(cohort, home):
    done = []
    store_folder().mkdir(parents=True)
    other = filelock.FileLock(artefact_path(fit, cohort, seed=1).with_suffix(".lock"), thread_local=False)
    other.acquire()
    worker = threading.Thread(target=lambda: done.extend(fitted_each(fit, cohort, seeds=[1, 2, 3])))
    worker.start()
    deadline = time.monotonic() + 60
    while not ((home / "calls").exists() and calls(home) == [2, 3]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert calls(home) == [2, 3]
    assert not done
    other.release()
    worker.join(timeout=60)
    assert calls(home) == [2, 3, 1]
    assert len(done) == 3


def test_wrong_arguments_are_those_of_the_training(cohort):
    with pytest.raises(ValueError, match=r"steps must be an integer >= 1"):
        fitted_each(fit_unet, cohort, seeds=[0], **(TRAINING | {"steps": 0}))
