import pytest
import torch
from torch import nn

from segconf_lite.models import device
from segconf_lite.models.device import (
    bf16_pays,
    check_same_device,
    device_of,
    in_double_precision,
    isolated_random_state,
    kept_random_state,
    pick_device,
)


def test_cpu_is_always_there_and_auto_picks_one(monkeypatch):
    monkeypatch.delenv("SEGCONF_DEVICE", raising=False)
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", *device.PREFERRED)


def test_auto_prefers_cuda_passes_mps_by_and_follows_the_environment(monkeypatch):
    monkeypatch.setattr(device, "PREFERRED", ("cuda",))
    monkeypatch.delenv("SEGCONF_DEVICE", raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    assert pick_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    for asked in ("cuda:1", "cpu"):
        monkeypatch.setenv("SEGCONF_DEVICE", asked)
        assert pick_device("auto") == torch.device(asked)
    assert pick_device("cuda") == torch.device("cuda"), "what is asked for by name counts"


def test_unknown_and_absent_devices(monkeypatch):
    for name in ("tpu", "meta", "cuda:x"):
        with pytest.raises(ValueError, match=rf"device must be one of .*got '{name}'"):
            pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' is not available here; use device='auto' or 'cpu'"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="device 'cuda:1' is not available here"):
        pick_device("cuda:1")
    monkeypatch.setenv("SEGCONF_DEVICE", "cuda:7")
    with pytest.raises(ValueError, match="device 'cuda:7' is not available here"):
        pick_device("auto")


def test_device_of_a_network_and_of_what_was_fitted_beside_it():
    assert device_of(nn.Conv2d(1, 1, 1)) == torch.device("cpu")
    assert device_of(nn.ReLU()) == torch.device("cpu")
    halves = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1, device="meta"))
    with pytest.raises(ValueError, match=r"one device, got parts on cpu, meta; move all of it"):
        device_of(halves)
    with pytest.raises(ValueError, match="one device, got parts on cpu, meta"):  # buffers count, too
        device_of(nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1, affine=False, device="meta")))
    check_same_device(halves[0], predictor=nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"predictor lies on meta and the network on cpu; move .*\.fit\("):
        check_same_device(halves[0], predictor=halves[1])


def test_double_precision_on_the_device_or_on_the_cpu():
    assert in_double_precision(torch.ones(2)).dtype == torch.float64
    assert torch.equal(in_double_precision(torch.ones(2, device=pick_device())).cpu(), torch.ones(2).double())


def test_a_random_state_that_was_lent_out_comes_back():
    for place in {"cpu", str(pick_device())}:
        states = []
        for _ in range(2):
            with kept_random_state(place):
                states.append(torch.rand(2, device=place).tolist())
        assert states[0] == states[1]


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_bf16_on_cuda_needs_the_instructions_not_the_emulation(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert bf16_pays("cuda") is (capability >= (8, 0))


def test_bf16_on_cpu_follows_the_probes_and_survives_their_absence(monkeypatch):
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for name in probes:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert bf16_pays("cpu") is False
    monkeypatch.setattr(torch.cpu, probes[0], lambda: True)
    assert bf16_pays(torch.device("cpu")) is True
    for name in probes:
        monkeypatch.delattr(torch.cpu, name)
    assert bf16_pays("cpu") is False


def test_bf16_elsewhere_is_not_assumed():
    assert bf16_pays("mps") is False


def test_random_state_is_seeded_inside_and_put_back_also_after_an_error():
    before = torch.get_rng_state()
    with isolated_random_state(7):
        first = torch.rand(3)
    inside = []

    def fail():
        with isolated_random_state(7):
            inside.append(torch.rand(3))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(inside[0], first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_of_another_device_is_refused_by_the_device():
    """The law that the pretended device must keep; without it, a mixture would be found on a GPU only."""
    place = pick_device()
    assert (
        torch.rand(2, generator=torch.Generator(place).manual_seed(0), device=place).device.type == place.type
    )
    if place.type != "cpu":
        with pytest.raises(RuntimeError, match="device type for generator"):
            torch.rand(2, generator=torch.Generator(), device=place)


def test_what_has_no_parameters_lies_nowhere_and_is_never_on_another_device():
    away = nn.Linear(1, 1, device="meta")
    check_same_device(away, autoencoder=nn.Identity())
    with pytest.raises(ValueError, match="the autoencoder lies on cpu and the network on meta"):
        check_same_device(away, autoencoder=nn.BatchNorm1d(1, affine=False))
