import copy
import json
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from segconf_lite.models import store
from segconf_lite.models.store import artefact_address, load_or_fit, store_folder
from segconf_lite.models.unet import UNet, predict_probabilities

CONFIG = {"channels": (4, 6), "steps": 3, "rate": 0.1, "name": "a", "deep": {"x": [1, None, True]}}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def cohort(disc_cohort):
    return disc_cohort(4)


class Fit:
    """Counts its calls; each call yields other weights."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        torch.manual_seed(self.calls)
        unet = UNet(n_classes=2, channels=(4, 6), norm="batch")
        unet.history = [{"step": 1, "train_loss": 0.5, "validation_loss": 0.25, "seconds": 0.1}]
        unet.train()(torch.randn(4, 1, 8, 8))  # moves the running statistics of the batch norm
        return unet


def load(cohort, fit, *, kind="unet", config=CONFIG):
    return load_or_fit(kind, config, cohort, fit, device="cpu")


def files(ending):
    return sorted(store_folder().glob(f"*.{ending}"))


def test_folder_follows_the_environment(monkeypatch, home):
    assert store_folder() == home / "store"
    monkeypatch.delenv("SEGCONF_HOME")
    assert store_folder().parts[-2:] == ("segconf_lite", "store")


def test_second_call_reads_back_the_same_bits_and_fits_nothing(cohort):
    fit = Fit()
    first, second = load(cohort, fit), load(cohort, fit)
    assert fit.calls == 1
    assert second is not first
    assert not first.training
    assert not second.training
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        assert value.stride() == second.state_dict()[name].stride()
    assert second.config == first.config
    assert second.history == first.history
    images = cohort.images
    assert torch.equal(predict_probabilities(first, images), predict_probabilities(second, images))


def test_files_are_named_by_kind_and_address_and_nothing_else_stays(cohort):
    load(cohort, Fit())
    stem = f"unet-{artefact_address('unet', CONFIG, cohort)}"
    assert {p.name for p in store_folder().iterdir()} - {f"{stem}.lock"} == {
        f"{stem}.safetensors",
        f"{stem}.json",
    }
    record = json.loads(files("json")[0].read_text())["record"]
    assert record["class"] == "segconf_lite.models.unet:UNet"
    assert {"config", "history", "tensors_sha256", "created", "versions"} <= record.keys()


def test_address_depends_on_everything_that_decides_the_result(cohort, disc_cohort, monkeypatch):
    changed = [
        artefact_address("unet", CONFIG, cohort),
        artefact_address("net", CONFIG, cohort),
        artefact_address("unet", {**CONFIG, "steps": 4}, cohort),
        artefact_address("unet", {**CONFIG, "steps": 3.0}, cohort),
        artefact_address("unet", {**CONFIG, "more": None}, cohort),
        artefact_address("unet", CONFIG, disc_cohort(4, seed=1)),
    ]
    monkeypatch.setattr(store, "_TRAINING_SOURCES", ("unet.py",))  # other code
    changed.append(artefact_address("unet", CONFIG, cohort))
    assert len(set(changed)) == len(changed)
    assert all(re.fullmatch("[0-9a-f]{16}", address) for address in changed)


def test_address_does_not_depend_on_order_or_on_list_or_tuple(cohort):
    turned = {key: CONFIG[key] for key in reversed(CONFIG)} | {"channels": [4, 6]}
    assert artefact_address("unet", turned, cohort) == artefact_address("unet", CONFIG, cohort)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"a": np.int64(1)},
            r"config\['a'\] must be text, a number.*got int64; turn it into one, e.g. int\(value\)",
        ),
        ({"a": [1, {"b": object()}]}, r"config\['a'\]\[1\]\['b'\] must be text, .*got object"),
        ({"a": float("nan")}, r"config\['a'\] must be finite, got nan"),
        ({"a": {1: 2}}, r"keys of config\['a'\] must be text, got 1 \(int\)"),
    ],
)
def test_config_that_json_would_change_is_refused(cohort, config, message):
    with pytest.raises(ValueError, match=message):
        load(cohort, Fit(), config=config)


@pytest.mark.parametrize("kind", ["", "U-Net", "../unet", "a/b"])
def test_kind_cannot_leave_the_folder(cohort, kind):
    with pytest.raises(ValueError, match="kind must be lower case letters, digits and '_'"):
        load(cohort, Fit(), kind=kind)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "flipped": flip_a_byte,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "other": lambda path: path.write_bytes(b"[1, 2]"),
}


@pytest.mark.parametrize("ending", ["safetensors", "json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_reported_and_replaced(cohort, ending, damage):
    fit = Fit()
    load(cohort, fit)
    DAMAGE[damage](files(ending)[0])
    with pytest.warns(UserWarning, match=r"unet-\w+ in .* is damaged .*fitted again and replaced") as caught:
        second = load(cohort, fit)
    assert caught[0].filename == __file__
    assert fit.calls == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = load(cohort, fit)
    assert fit.calls == 2
    assert torch.equal(
        predict_probabilities(second, cohort.images), predict_probabilities(third, cohort.images)
    )


@pytest.mark.parametrize(
    "name", ["os:system", "segconf_lite.models.store:load_or_fit", "segconf_lite.cohorts.cohort:Cohort"]
)
def test_a_record_cannot_name_another_class(cohort, name):
    """Even one whose checksum was made to fit."""
    fit = Fit()
    load(cohort, fit)
    path = files("json")[0]
    record = json.loads(path.read_text())["record"] | {"class": name}
    digest = store.hashlib.sha256(store._canonical(record).encode()).hexdigest()
    path.write_text(json.dumps({"record": record, "sha256": digest}))
    with pytest.warns(UserWarning, match="is not (of|a network of) this package"):
        load(cohort, fit)
    assert fit.calls == 2


def test_an_artefact_of_an_older_class_is_fitted_again_without_alarm(cohort, monkeypatch):
    fit = Fit()
    with monkeypatch.context() as patch:
        patch.setattr(store, "_source_of", lambda kind: "older")
        load(cohort, fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(cohort, fit)
    assert fit.calls == 2


def test_only_networks_of_this_package_are_stored(cohort):
    foreign = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"with a config attribute, got torch.nn.modules.linear:Linear"):
        load(cohort, lambda: foreign)
    with pytest.raises(ValueError, match=r"fit must return a torch.nn.Module"):
        load(cohort, lambda: None)
    assert not files("json")


def test_errors_of_fit_are_not_swallowed_and_free_the_lock(cohort):
    def broken():
        raise OSError("no disc")

    for _ in range(2):
        with pytest.raises(OSError, match="no disc"):
            load(cohort, broken)


def test_a_folder_that_cannot_be_made_costs_only_the_storing(cohort, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path / "file"))
    fit = Fit()
    with pytest.warns(UserWarning, match="UNet could not be stored in .*Set SEGCONF_HOME"):
        module = load(cohort, fit)
    assert isinstance(module, UNet)
    assert not module.training


def test_a_full_disc_leaves_no_rubbish(cohort, monkeypatch):
    def full(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert isinstance(load(cohort, Fit()), UNet)
    assert not [p for p in store_folder().iterdir() if p.suffix != ".lock"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_read_without_a_word(cohort):
    fit = Fit()
    load(cohort, fit)
    [path.unlink() for path in files("lock")]
    store_folder().chmod(0o500)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(cohort, fit)
    finally:
        store_folder().chmod(0o700)
    assert fit.calls == 1


def test_a_file_system_without_locks_still_works(cohort, monkeypatch):
    def no_lock(self, *args, **kwargs):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(store.filelock.FileLock, "acquire", no_lock)
    fit = Fit()
    load(cohort, fit)
    load(cohort, fit)
    assert fit.calls == 1


def test_two_processes_at_once_fit_once(tmp_path):
    program = f"""
import time, pathlib, numpy as np
from segconf_lite.cohorts.cohort import Cohort
from segconf_lite.models import UNet, load_or_fit
cohort = Cohort(np.zeros((2, 1, 8, 8), 'float32'), np.zeros((2, 8, 8), 'int64'), np.array(['A', 'A']),
                np.array(['a', 'b']), np.ones((2, 2)), ('background', 'disc'))
def fit():
    with open({str(tmp_path / "calls")!r}, 'a') as calls:
        calls.write('x')
    time.sleep(2)
    return UNet(n_classes=2, channels=(4, 6))
unet = load_or_fit('unet', {{}}, cohort, fit, device='cpu')
print(sum(p.sum().item() for p in unet.parameters()))
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    sums = {run.communicate(timeout=300)[0] for run in runs}
    assert all(run.returncode == 0 for run in runs)
    assert (tmp_path / "calls").read_text() == "x"
    assert len(sums) == 1


def test_reading_uses_the_cohort_for_its_fingerprint_only(cohort):
    class Named:
        def fingerprint(self):
            return cohort.fingerprint()

    fit = Fit()
    load(cohort, fit)
    load(Named(), fit)
    assert fit.calls == 1


def test_a_stored_network_can_be_copied_and_trained_on(cohort):
    load(cohort, Fit())
    unet = copy.deepcopy(load(cohort, Fit()))
    assert all(p.requires_grad for p in unet.parameters())
