"""A second device for machines that have none, so that mistakes that only a GPU would show fail a test here.

A tensor that is moved to, or made on, the device "pretend" is a thin wrapper around an ordinary CPU tensor.
Every operation of PyTorch below autograd passes through `_run`, which computes on the CPU and refuses what a
GPU refuses:

- `.numpy()` and `np.asarray` of such a tensor;
- an operation that mixes it with a CPU tensor of one or more dimensions (CPU indices of it are allowed);
- a generator of the CPU for random numbers on the device;
- and, as Apple's MPS does, double precision.

The device has a random state of its own. Autograd, forward mode and `torch.func` work as on any device, since
the wrapper sits below them.

PyTorch's hooks for a device that is written in Python are recent; where they are missing, `available` is
False.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["NAME", "PretendDevice", "available"]

NAME = "pretend"
_SETUP = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
available = _SETUP is not None

_WIDE = (torch.float64, torch.complex128)
_TAKES_CPU_INDICES = {"aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_"}
_TAKES_CPU_INDICES |= {"aten::_index_put_impl_", "aten::_unsafe_index_put"}
_MOVES = {"aten::copy_", "aten::copy", "aten::_to_copy"}


class _Backend:
    """What PyTorch asks of ``torch.pretend``."""

    generator = torch.Generator()

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device(which: Any) -> Any:
        return contextlib.nullcontext()

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @classmethod
    def manual_seed(cls, seed: int) -> None:
        cls.generator.manual_seed(seed)

    manual_seed_all = manual_seed

    @classmethod
    def get_rng_state(cls, device: Any = None) -> torch.Tensor:
        return cls.generator.get_state()

    @classmethod
    def set_rng_state(cls, state: torch.Tensor, device: Any = None) -> None:
        cls.generator.set_state(state)


class _Generator(torch.Generator):
    """`torch.Generator` that also knows the pretended device; its random numbers are those of the CPU."""

    there: ClassVar[set[int]] = set()  # addresses of those on the device: an operation sees another object

    def __new__(cls, device: Any = "cpu") -> _Generator:
        self = super().__new__(cls, "cpu" if _is_far(device) else device)
        (cls.there.add if _is_far(device) else cls.there.discard)(self._cdata)
        return self

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0) if self._cdata in self.there else torch.device("cpu")


class _Far(torch.Tensor):
    """A tensor on the pretended device; its numbers are those of the CPU tensor `near`."""

    near: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> _Far:
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            layout=near.layout,
            device=torch.device(NAME, 0),
        )
        self.near = near
        return self

    def __repr__(self, **_: Any) -> str:
        return f"{self.near!r} on {NAME}"

    def tolist(self) -> Any:
        return self.near.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy; use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Far:
        copied = _Far(self.near.detach().clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copied = torch.nn.Parameter(copied.detach(), requires_grad=self.requires_grad)
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class PretendDevice(TorchDispatchMode):
    """Inside, the device "pretend" is there.

    Example::

        with PretendDevice():
            torch.zeros(3, device="pretend").numpy()  # TypeError, as on a GPU
    """

    _is_set_up = False
    _library = torch.library.Library("_", "IMPL")  # for the whole process

    def __init__(self) -> None:
        super().__init__()
        if not PretendDevice._is_set_up:
            _SETUP(NAME, _Backend())
            # Autocast is let through: it changes no precision here.
            self._library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
            PretendDevice._is_set_up = True

    def __enter__(self) -> Any:
        # torch.tensor(..., device=...) makes the tensor on the CPU first, and the move passes through here.
        self._before = torch._C._only_lift_cpu_tensors()
        self._generator, torch.Generator = torch.Generator, _Generator
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._before)
        torch.Generator = self._generator
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    known = _Known.of(func)
    leaves = list(_leaves(args)) + list(_leaves(kwargs.values()))
    far_ones = [leaf for leaf in leaves if type(leaf) is _Far]
    asked = kwargs.get("device")
    if not far_ones and not _is_far(asked):
        return func(*args, **kwargs)
    _refuse_mixtures(known, args, leaves, far_ones)
    result_is_far = _is_far(asked)
    if asked is None:  # what is copied into a tensor of the CPU stays there
        result_is_far = known.name != "aten::copy_" or type(args[0]) is _Far
    for leaf in leaves:
        if isinstance(leaf, torch._C.Generator) and (leaf._cdata in _Generator.there) != result_is_far:
            wanted, found = (NAME, "cpu") if result_is_far else ("cpu", NAME)
            raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")
    near_args, near_kwargs = _mapped(_near, args), {name: _mapped(_near, v) for name, v in kwargs.items()}
    with _own_random_state() if known.is_random else contextlib.nullcontext():
        result = known.computes(*near_args, **near_kwargs)
    if not result_is_far:
        return result
    own = {id(leaf.near): leaf for leaf in far_ones}  # what works in place returns its own argument
    return _mapped(lambda value: own[id(value)] if id(value) in own else _put_there(value), result)


class _Known:
    """What the wrapper must know of one operation, looked up once."""

    _all: ClassVar[dict[Any, _Known]] = {}

    def __init__(self, func: Any) -> None:
        self.name = func._schema.name
        self.is_random = torch.Tag.nondeterministic_seeded in func.tags
        # An "efficient" zero tensor holds no numbers at all, so it cannot be wrapped.
        self.computes = torch.ops.aten.zeros.default if self.name == "aten::_efficientzerotensor" else func

    @classmethod
    def of(cls, func: Any) -> _Known:
        if func not in cls._all:
            cls._all[func] = cls(func)
        return cls._all[func]


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _mapped(change: Any, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_mapped(change, part) for part in value)
    return change(value)


def _refuse_mixtures(known: _Known, args: Any, leaves: list[Any], far_ones: list[Any]) -> None:
    if not far_ones or known.name in _MOVES:
        return
    if known.name in _TAKES_CPU_INDICES:
        if type(args[0]) is not _Far:
            raise RuntimeError(
                f"indices should be on cpu for a tensor on cpu, found {NAME}:0 in {known.name}"
            )
        leaves = list(_leaves((args[0], *args[2:])))
    if any(isinstance(leaf, torch.Tensor) and type(leaf) is not _Far and leaf.dim() for leaf in leaves):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, found {NAME}:0 and cpu in {known.name}"
        )


def _is_far(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _near(leaf: Any) -> Any:
    if type(leaf) is _Far:
        return leaf.near
    return torch.device("cpu") if isinstance(leaf, torch.device) and _is_far(leaf) else leaf


def _put_there(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.dtype in _WIDE:
        raise TypeError(
            f"Cannot convert a tensor to {value.dtype} on {NAME}: the device has no double precision"
        )
    return _Far(value)


@contextlib.contextmanager
def _own_random_state() -> Any:
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(_Backend.generator.get_state())
    try:
        yield
    finally:
        _Backend.generator.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(before)
