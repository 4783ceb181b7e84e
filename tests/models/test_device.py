import pytest
import torch

from segconf_lite.models.device import bf16_pays, isolated_random_state, pick_device


def test_cpu_is_always_there_and_auto_picks_one():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda", "mps")


def test_auto_prefers_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")


def test_unknown_and_absent_devices(monkeypatch):
    with pytest.raises(ValueError, match=r"device must be one of .*got 'tpu'"):
        pick_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' is not available here; use device='auto' or 'cpu'"):
        pick_device("cuda")


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
