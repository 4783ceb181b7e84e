import threading
import time

import filelock
import pytest

from segconf_lite.models import fit_unet, load_or_fit, members
from segconf_lite.models.members import stored_unets
from segconf_lite.models.store import artefact_address, store_folder

TRAINING = {"channels": (4, 6), "steps": 2, "batch_size": 4, "precision": "fp32"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))


def test_they_are_those_of_load_or_fit_in_the_order_asked(cohort, assert_repeats):
    networks = stored_unets(cohort, seeds=[4, 2], validation=cohort, **TRAINING)
    for seed, network in zip((4, 2), networks, strict=True):
        config = {**TRAINING, "seed": seed, "validation": cohort.fingerprint()}
        again = load_or_fit("unet", config, cohort, lambda: pytest.fail("trained a second time"))
        alone = fit_unet(cohort, validation=cohort, **TRAINING, seed=seed)
        for other in (again, alone):
            assert_repeats(network.state_dict().values(), other.state_dict().values())
        assert not network.training


@pytest.mark.not_on_the_pretended_device(reason="it is there in one thread only")
def test_what_another_process_trains_is_left_to_it_meanwhile(cohort, monkeypatch):
    trained, done = [], []

    def fit(*args, seed, **kwargs):
        trained.append(seed)
        return fit_unet(*args, seed=seed, **kwargs)

    monkeypatch.setattr(members, "fit_unet", fit)
    stem = f"unet-{artefact_address('unet', {**TRAINING, 'seed': 1}, cohort)}"
    store_folder().mkdir(parents=True)
    other = filelock.FileLock(store_folder() / f"{stem}.lock", thread_local=False)
    other.acquire()
    worker = threading.Thread(target=lambda: done.extend(stored_unets(cohort, seeds=[1, 2, 3], **TRAINING)))
    worker.start()
    deadline = time.monotonic() + 60
    while trained != [2, 3] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert trained == [2, 3]
    assert not done
    other.release()
    worker.join(timeout=60)
    assert trained == [2, 3, 1]
    assert len(done) == 3


def test_without_waiting_the_store_says_that_another_process_holds_it(cohort):
    stem = f"unet-{artefact_address('unet', {}, cohort)}"
    store_folder().mkdir(parents=True)
    with (
        filelock.FileLock(store_folder() / f"{stem}.lock"),
        pytest.raises(TimeoutError, match=stem),
    ):
        load_or_fit("unet", {}, cohort, lambda: pytest.fail("trained beside another"), wait=False)


def test_wrong_arguments_are_those_of_the_training(cohort):
    with pytest.raises(ValueError, match="steps must be >= 1"):
        stored_unets(cohort, seeds=[0], **(TRAINING | {"steps": 0}))
