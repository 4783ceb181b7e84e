import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import segconf_lite.models as models


def test_importing_the_room_loads_neither_torch_nor_monai():
    program = (
        "import sys, segconf_lite.models as m; dir(m); "
        "assert not {'torch', 'monai'} & set(sys.modules), 'too early'; "
        "m.UNet; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_public_names_are_there():
    for name in models.__all__:
        assert callable(getattr(models, name))
        assert name in dir(models)


def test_unknown_name():
    with pytest.raises(AttributeError, match=r"No segconf_lite\.models attribute VNet"):
        models.VNet  # noqa: B018


def test_a_function_is_not_hidden_by_a_module_of_its_name():
    import inspect

    from segconf_lite import models

    for path in Path(models.__file__).parent.glob("[a-z]*.py"):
        importlib.import_module(f".{path.stem}", models.__name__)
    for name in models.__all__:
        assert not inspect.ismodule(getattr(models, name)), name
