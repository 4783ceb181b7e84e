"""What an address knows: every argument, and the code that answers."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from segconf_lite import stress
from segconf_lite.models.address import address, code_text
from segconf_lite.models.fit import fit_unet
from segconf_lite.models.segmenter import Segmenter
from segconf_lite.models.unet import UNet

PACKAGE = Path(__file__).parents[2] / "segconf_lite"
SIZE = 16
EPS = {"eps": 0.2}


def crops(network, images, labels, generator):
    return stress.crop_around(images, labels, size=SIZE)


def hostile(network, images, labels, generator):
    return attack(network, images, labels), labels


def attack(network, images, labels):
    return stress.fgsm(network, images, labels, **EPS).images


def where(value):
    return address(fit_unet, {"prepare": value})


@pytest.mark.parametrize(
    ("name", "value", "prepare"),
    [("SIZE", 24, crops), ("EPS", {"eps": 0.3}, hostile)],
    ids=["crop", "attack"],
)
def test_a_changed_constant_of_a_notebook_is_another_training(monkeypatch, name, value, prepare):
    """Also one that is used by a function that the named function calls."""
    before = where(prepare)
    assert where(prepare) == before
    monkeypatch.setitem(globals(), name, value)
    assert where(prepare) != before


def test_functions_differ_by_lines_closures_and_defaults():
    def make(factor):
        def scaled(network, images, labels, generator, shift=0.0):
            return factor * images + shift, labels

        return scaled

    assert where(make(1)) == where(make(1))
    assert where(make(1)) != where(make(2))
    other = make(1)
    other.__defaults__ = (0.5,)
    assert where(make(1)) != where(other)
    assert where(functools.partial(make(1), shift=1)) != where(functools.partial(make(1), shift=2))


def test_architectures_and_networks_count():
    parts = [functools.partial(Segmenter, kind=kind, n_classes=2) for kind in ("unet", "residual")]
    assert where(parts[0]) != where(parts[1])
    networks = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            networks.append(UNet(n_classes=2, channels=(4, 6)))
    assert where(networks[0]) == where(networks[1]) != where(networks[2])


def test_what_a_network_does_besides_its_weights_counts():
    conv = torch.nn.Conv2d(1, 1, 1)
    plain, other = (torch.nn.Sequential(conv, layer()) for layer in (torch.nn.ReLU, torch.nn.Tanh))
    quantised = [stress.QuantisedInput(conv, levels=levels, low=0.0, high=1.0) for levels in (4, 64)]
    known = {where(network) for network in (plain, other, *quantised)}
    conv.weight.requires_grad_(False)
    assert len(known | {where(plain)}) == 5


def test_two_functions_on_one_line_are_two_functions():
    first, second = (lambda n, i, y, g: (i, y)), (lambda n, i, y, g: (2 * i, y))
    assert where(first) != where(second)
    assert where({1: 2}.get) != where({1: 3}.get)


def test_a_decorated_function_counts_with_its_decorator():
    def scaled(factor):
        def decorate(function):
            @functools.wraps(function)
            def wrapper(network, images, labels, generator):
                return function(network, factor * images, labels, generator)

            return wrapper

        return decorate

    @torch.no_grad()
    def quiet(network, images, labels, generator):
        return images, labels

    assert where(scaled(2)(crops)) != where(scaled(3)(crops))
    assert where(quiet) == where(quiet)
    assert "0x" not in str(where(quiet))


def test_a_class_of_a_notebook_counts_with_its_values_and_methods():
    def make(size, factor):
        class Crop:
            side = size

            @staticmethod
            def scale(images):
                return factor * images

            def __call__(self, network, images, labels, generator):
                return self.scale(images[..., : self.side]), labels

        return Crop()

    assert where(make(16, 1)) == where(make(16, 1))
    assert len({where(make(16, 1)), where(make(24, 1)), where(make(16, 2))}) == 3


def test_a_name_that_is_only_an_attribute_does_not_count(monkeypatch):
    def mean(network, images, labels, generator):
        return images - images.amax(), labels

    before = where(mean)
    monkeypatch.setitem(globals(), "amax", torch.Generator())
    assert where(mean) == before


def test_values_count_by_content_and_type():
    plain = [1, 1.0, True, "1", None, [1], [[1]], {"a": 1}, {1: 1}, {"1": 1}, float("nan")]
    values = [*plain, np.ones(1), np.ones(1, "f4")]
    assert len({where(value) for value in values}) == len(values)
    assert where((1, 2)) == where([1, 2])
    assert where({"a": 1, "b": 2}) != where({"b": 2, "a": 1})  # a function may apply them in order
    assert where(functools.partial(UNet, a=1, b=2)) == where(functools.partial(UNet, b=2, a=1))
    assert where(np.float64(0.1)) == where(0.1)
    assert where(torch.ones(2)) == where(np.ones(2, "f4"))


def test_a_comment_changes_nothing_and_a_number_does():
    source = (
        '"""Doc."""\n\n# why\nX = 1  # unit\n\n\ndef f():\n    """Doc\n\n    more."""\n    return "# no"\n'
    )
    assert code_text(source) == 'X = 1\ndef f():\n    return "# no"'


@pytest.mark.parametrize(
    ("module", "old", "new", "thing"),
    [
        ("fragility/optimum.py", "history_size=20", "history_size=10", "segconf_lite.fragility:polish"),
        ("stress/attacks.py", "import torch\n", "import torch\n\nODD = 1\n", "segconf_lite.stress:fgsm"),
        ("models/unet.py", "import torch\n", "import torch\n\nODD = 1\n", "segconf_lite.models:fit_unet"),
        ("models/unet.py", "import torch\n", "import torch  # fast\n", None),
    ],
    ids=["polish", "attack", "network", "a comment"],
)
def test_edited_code_of_the_package_is_another_training(tmp_path, module, old, new, thing):
    """Edited in a copy: also of a module that the named one only imports."""
    shutil.copytree(PACKAGE, tmp_path / "segconf_lite", ignore=shutil.ignore_patterns("__pycache__"))
    home, _, name = (thing or "segconf_lite.models:fit_unet").partition(":")
    program = (
        f"from {home} import {name} as thing; from segconf_lite.models.address import address; "
        "print(address(thing, {}))"
    )

    def run():
        return subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    before = run()
    path = tmp_path / "segconf_lite" / module
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new, 1))
    assert (run() == before) == (thing is None)


def test_what_has_no_content_is_refused():
    message = r"prepare must be something whose content can be read: .* got _?Generator"
    with pytest.raises(ValueError, match=message):
        where(torch.Generator())


@pytest.mark.not_on_the_pretended_device(reason="it cannot trace a network")
def test_scripted_networks_of_equal_weights_differ_by_their_code():
    convolution = torch.nn.Conv2d(1, 2, 1)
    plain, rectified = (
        torch.jit.trace(torch.nn.Sequential(convolution, last), torch.zeros(1, 1, 4, 4))
        for last in (torch.nn.Identity(), torch.nn.ReLU())
    )
    first, second = (address(address, {"network": network}) for network in (plain, rectified))
    assert first != second
    assert first == address(address, {"network": plain})
