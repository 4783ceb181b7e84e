"""What the arguments of public functions must be, with messages of one form.

Nearly every function here takes the argument's name and its value, returns the value in the type that the
caller works with, and raises ``ValueError`` otherwise: "NAME must be EXPECTED, got GOT; FIX". No value is
changed in place. "numpy or torch" means: a numpy array of any stride and byte order or a dense torch tensor
on any device, of any real integer or floating type, with or without gradient.

Shape letters: N cases, C channels or classes, H rows, W columns.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import reprlib
from collections.abc import Collection, Iterable, Sized
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import numpy as np

from segconf_lite.arrays import to_numpy

if TYPE_CHECKING:  # torch and pandas take seconds to load
    import pandas as pd
    from numpy.typing import DTypeLike
    from torch import Tensor

Choice = TypeVar("Choice")
Ready = TypeVar("Ready")
Images = TypeVar("Images", bound="Tensor | np.ndarray")


def refuse(name: str, expected: str, got: object, fix: str = "") -> ValueError:
    """The error that every check raises.

    Args:
        name: Name of the argument.
        expected: What it must be, to read after "must be".
        got: What came, as text or as something that `str` makes short.
        fix: The likely remedy; may be empty.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> str(refuse("steps", "an integer >= 1", repr(0), "try steps=1"))
        'steps must be an integer >= 1, got 0; try steps=1'
    """
    return ValueError(f"{name} must be {expected}, got {got}" + (f"; {fix}" if fix else ""))


def one_of(name: str, value: Choice, choices: Iterable[Choice]) -> Choice:
    """A value out of a closed list.

    Args:
        name: Name of the argument.
        value: Its value.
        choices: The allowed values.

    Raises:
        ValueError: If the value is not among the choices.

    Example:
        >>> one_of("norm", "batch", ("batch", "instance"))
        'batch'
    """
    choices = tuple(choices)
    for choice in choices:
        same_kind = isinstance(value, type(choice)) and isinstance(value, bool) == isinstance(choice, bool)
        if same_kind and value == choice:
            return value
    raise refuse(name, f"one of {choices}", reprlib.repr(value))


def function(name: str, value: object) -> None:
    """Something that can be called.

    Args:
        name: Name of the argument.
        value: Its value.

    Raises:
        ValueError: If it cannot be called.

    Example:
        >>> function("statistic", "mean")
        Traceback (most recent call last):
        ValueError: statistic must be a function, got str
    """
    if not callable(value):
        raise refuse(name, "a function", type(value).__name__)


def integer(
    name: str, value: object, *, low: int | None = None, high: int | None = None, fix: str = ""
) -> int:
    """A Python integer from an integer of Python, numpy or torch; booleans and fractions are refused.

    Args:
        name: Name of the argument.
        value: Its value; an array or tensor without axes counts as a number.
        low: Smallest allowed value.
        high: Largest allowed value.
        fix: The likely remedy, for the message.

    Raises:
        ValueError: If it is no integer, or out of range.

    Example:
        >>> integer("seed", np.int64(3), low=0)
        3
    """
    plain = _scalar(value)
    good = isinstance(plain, int) and (low is None or plain >= low) and (high is None or plain <= high)
    if not good or not isinstance(plain, int) or isinstance(plain, bool):
        raise refuse(name, "an integer" + _range(low, high), reprlib.repr(value), fix)
    return plain


def number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    fix: str = "",
) -> float:
    """A finite Python float from a number of Python, numpy or torch; booleans and text are refused.

    Args:
        name: Name of the argument, with its unit if it has one.
        value: Its value; an array or tensor without axes counts as a number.
        low: Smallest allowed value.
        high: Largest allowed value.
        open_low: Whether `low` itself is refused.
        open_high: Whether `high` itself is refused.
        fix: The likely remedy, for the message.

    Raises:
        ValueError: If it is no finite number, or out of range.

    Example:
        >>> number("eps", 0.5, low=0, open_low=True)
        0.5
    """
    plain = _scalar(value)
    where = _range(low, high, open_low, open_high)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)) or not _is_finite(plain):
        raise refuse(name, f"a finite number{where}", reprlib.repr(value), fix)
    if plain < low or plain > high or (open_low and plain == low) or (open_high and plain == high):
        raise refuse(name, f"a number{where}", repr(plain), fix)
    return float(plain)


def between(name: str, value: object, low: float = 0.0, high: float = 1.0, *, fix: str = "") -> float:
    """A finite number in the closed interval [low, high], see `number`.

    Example:
        >>> between("coverage", 0.8)
        0.8
    """
    return number(name, value, low=low, high=high, fix=fix)


def array(
    name: str,
    values: object,
    shape: str,
    *,
    dtype: DTypeLike | None = None,
    empty: bool = False,
    fix: str = "",
) -> np.ndarray:
    """A numpy array of real numbers with as many axes as `shape` has words.

    Args:
        name: Name of the argument.
        values: Numpy or torch, a pandas column, or a sequence of numbers.
        shape: The axes, e.g. ``"N H W"``; an axis that is a number must have exactly this length.
        dtype: Type of the result; None keeps the type.
        empty: Whether an axis of length 0 is allowed.
        fix: The likely remedy, for the message.

    Returns:
        The array; it may share memory with `values`.

    Raises:
        ValueError: If it holds anything but real numbers or booleans, or has another shape.

    Example:
        >>> array("risk", [0.1, 0.3], "n_cases")
        array([0.1, 0.3])
    """
    found = _real(name, values)
    axes = shape.split()
    told = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    wrong = found.ndim != len(axes) or any(
        axis.isdigit() and int(axis) != length for axis, length in zip(axes, found.shape, strict=False)
    )
    if wrong or (not empty and 0 in found.shape):
        raise refuse(name, f"{'' if empty else 'non-empty '}{told}", found.shape, fix)
    return found if dtype is None else found.astype(dtype, copy=False)


def finite(name: str, values: np.ndarray, *, missing: bool = False, fix: str = "") -> np.ndarray:
    """An array without infinity, and without NaN unless `missing` values are allowed.

    Args:
        name: Name of the argument.
        values: Real numbers, cases first.
        missing: Whether NaN is allowed, where it stands for an undefined value.
        fix: The likely remedy, for the message.

    Raises:
        ValueError: Naming the number of cases that are not finite, and the first of them.

    Example:
        >>> finite("quality", np.array([0.5, np.nan]), missing=True)
        array([0.5, nan])
    """
    bad = np.isinf(values) if missing else ~np.isfinite(values)
    if bad.any():
        cases = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1)) if values.ndim else np.zeros(1, int)
        what = "infinity" if missing else "NaN or infinity"
        raise refuse(name, "finite", f"{what} in {len(cases)} cases (first: case {cases[0]})", fix)
    return values


def same_length(**arguments: Sized | None) -> int:
    """Number of cases, which all arguments must share; those that are None are passed over.

    Raises:
        ValueError: If two lengths differ.

    Example:
        >>> same_length(risk=[0.1, 0.2], subjects=["a", "b"], weights=None)
        2
    """
    lengths = {name: len(values) for name, values in arguments.items() if values is not None}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise refuse(" and ".join(lengths), "of one length, one entry per case", told)
    return next(iter(lengths.values()))


def image_batch(images: Images, name: str = "images", *, channels: int | None = 1, axes: int = 2) -> Images:
    """A non-empty batch of finite images, (N, channels, H, W), as it came.

    A single NaN spreads over a whole prediction, and NaN has no largest class. Methods that compare
    predictions would then call the case certain. Therefore no method takes an image that is not finite.

    Args:
        images: Numpy or torch.
        name: Name of the argument.
        channels: Expected number of channels; None takes any.
        axes: Spatial axes, 2 for (H, W) and 3 for (D, H, W).

    Returns:
        `images` itself, so that tensors keep their device, type and gradient.

    Raises:
        ValueError: If it is no array or tensor of real numbers, has another shape, or a value is not finite.

    Example:
        >>> image_batch(np.zeros((2, 1, 8, 8), np.float32)).shape
        (2, 1, 8, 8)
    """
    real = isinstance(images, np.ndarray) and images.dtype.kind in "iuf" and not np.ma.isMaskedArray(images)
    if not (real or (_is_tensor(images) and _is_dense(images))):
        got = f"{type(images).__module__.partition('.')[0]}.{type(images).__name__}"
        got += f" of {images.dtype}" if hasattr(images, "dtype") else ""
        expected = "a numpy array or a dense tensor of real numbers"
        raise refuse(name, expected, got, "pass np.asarray(..., 'float32')")
    shape, sides = tuple(images.shape), "D, H, W" if axes == 3 else "H, W"
    wanted = "C" if channels is None else str(channels)
    if len(shape) != axes + 2 or 0 in shape or (channels is not None and shape[1] != channels):
        fix = f"a stack (N, {sides}) becomes one with {name}[:, None]"
        raise refuse(name, f"non-empty (N, {wanted}, {sides})", shape, fix)
    if isinstance(images, np.ndarray):
        good = np.isfinite(images).reshape(len(images), -1).all(axis=1)
    else:
        good = to_numpy(images.detach().isfinite().flatten(1).all(dim=1))
    if not good.all():
        bad = np.flatnonzero(~good)
        fix = "look at the file; z-scoring a constant slice does this"
        raise refuse(name, "finite", f"NaN or infinity in {len(bad)} cases (first: case {bad[0]})", fix)
    return images


def label_map(
    name: str,
    labels: object,
    *,
    n_classes: int | None = None,
    shape: str | tuple[int, ...] = "N H W",
    ignore: int | None = None,
) -> np.ndarray:
    """Labels as int64, in 0 .. n_classes - 1.

    Args:
        name: Name of the argument.
        labels: Numpy or torch; integers, booleans, or floats that are whole.
        n_classes: Number of classes, background included; None does not look at the upper end.
        shape: The axes in words, or the exact shape.
        ignore: A label that may stand for pixels without a class.

    Raises:
        ValueError: If a label is no integer or out of range, or the shape is another.

    Example:
        >>> label_map("labels", np.array([[[0.0, 1.0]]]), n_classes=2)
        array([[[0, 1]]])
    """
    found = _real(name, labels)
    if isinstance(shape, str):
        array(name, found, shape)
    elif found.shape != shape:
        raise refuse(name, f"of shape {shape}", found.shape)
    # Beyond 2**53 a float is no exact integer; NaN fails every comparison.
    if found.dtype.kind == "f" and not ((abs(found) < 2**53) & (found == np.round(found))).all():
        raise refuse(name, "integers", "fractions, NaN or infinity", "pass labels, not probabilities")
    found = found.astype(np.int64, copy=False)
    inside = found if ignore is None else found[found != ignore]
    top = math.inf if n_classes is None else n_classes - 1
    if inside.size and (inside.min() < 0 or inside.max() > top):
        allowed = "integers >= 0" if n_classes is None else f"in 0..{n_classes - 1} ({n_classes} classes)"
        fix = "name the extra classes or remap them; the background counts as a class"
        raise refuse(name, allowed, f"{inside.min()}..{inside.max()}", fix)
    return found


def probabilities(
    values: object, name: str = "probabilities", *, tolerance: float | None = None
) -> np.ndarray:
    """Class probabilities (N, C, ...) with C >= 2, each pixel summing to 1 over C.

    Args:
        values: Numpy or torch.
        name: Name of the argument.
        tolerance: Largest allowed distance of a sum from 1. None: 1e-3, and 1e-2 for values in half precision
            (float16, bfloat16), because each of them is rounded to three digits.

    Returns:
        The array, float32 or wider.

    Raises:
        ValueError: If a value is not in [0, 1] or not finite, a sum is not 1, or there is a single class.

    Example:
        >>> probabilities(np.full((1, 2, 2, 2), 0.5)).shape
        (1, 2, 2, 2)
    """
    found = _real(name, values)
    if found.ndim < 3 or 0 in found.shape or found.shape[1] < 2:
        fix = "a sigmoid p becomes [1 - p, p] on axis 1"
        raise refuse(name, "non-empty (N, C, ...) with C >= 2", found.shape, fix)
    if tolerance is None:
        tolerance = 1e-2 if "float16" in str(getattr(values, "dtype", "")) else 1e-3
    found = found if found.dtype.kind == "f" and found.dtype.itemsize >= 4 else found.astype(np.float32)
    finite(name, found)
    if found.min() < 0 or found.max() > 1 + tolerance or abs(found.sum(axis=1) - 1).max() > tolerance:
        got, fix = f"{found.min():g}..{found.max():g}", "apply softmax over axis 1 first"
        raise refuse(name, "in [0, 1] with sum 1 over the classes", got, fix)
    return found


def names(name: str, values: object, *, length: int | None = None, unique: bool = False) -> np.ndarray:
    """Names as text (n,), such as subjects, domains or classes, none of them missing.

    Missing names (None, NaN, NaT, the empty text) are refused, because as text they would all become one
    person. Mixtures of text and numbers are refused, because nobody knows whether "1" and 1 are the same.

    Args:
        name: Name of the argument.
        values: A sequence, array or pandas column of text, or of integers, which become text.
        length: Expected number of names; None takes any.
        unique: Whether equal names are refused.

    Raises:
        ValueError: If a name is missing or no name, the types are mixed, or there is no order (a set).

    Example:
        >>> names("subjects", [1, 2, 2])
        array(['1', '2', '2'], dtype='<U1')
    """
    fix = f"pass a list: {name}=[...]"
    if isinstance(values, str | bytes | set | frozenset | dict) or not isinstance(values, Iterable):
        raise refuse(name, "a list of names in a fixed order", reprlib.repr(values), fix)
    if (_is_tensor(values) and not _is_dense(values)) or getattr(values, "ndim", 1) != 1:
        raise refuse(name, "one name per case", f"{type(values).__name__} of another form", fix)
    listed = list(to_numpy(values).tolist()) if hasattr(values, "dtype") else list(values)
    if length is not None and len(listed) != length:
        raise refuse(name, f"{length} names, one per case" if length != 1 else "one name", f"{len(listed)}")
    plain = [_scalar(value) for value in listed]
    plain = [int(v) if isinstance(v, float) and _is_finite(v) and v == int(v) else v for v in plain]
    for index, value in enumerate(plain):
        is_name = value.strip() if isinstance(value, str) else type(value) is int
        if not is_name or "\0" in str(value):
            got, fix = reprlib.repr(listed[index]), "name every case; leave cases without a name out"
            raise refuse(name, "text or integers, none missing", f"{got} (entry {index})", fix)
    if len({isinstance(value, str) for value in plain}) > 1:
        fix = "make all of them text, e.g. with .astype(str)"
        raise refuse(name, "all text or all integers", reprlib.repr(listed), fix)
    found = np.array([str(value) for value in plain], dtype=str)
    if unique and len(set(found.tolist())) < len(found):
        twice = sorted({n for n in found.tolist() if found.tolist().count(n) > 1})
        raise refuse(name, "different from each other", f"{twice} more than once", "rename them")
    return found


def spacing(spacing_mm: object, *, length: int, name: str = "spacing_mm", axes: int = 2) -> np.ndarray:
    """Row and column spacing in millimetres per case, (length, 2) float64.

    Args:
        spacing_mm: (2,), the same for all cases, or (length, 2); finite and > 0.
        length: Number of cases.
        name: Name of the argument.
        axes: Number of spacings of a case; of a volume 3, slice spacing first.

    Raises:
        ValueError: If the shape is another, or a value is not finite and > 0.

    Example:
        >>> spacing((0.5, 0.5), length=2).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    found = _real(name, spacing_mm).astype(np.float64)
    if found.shape not in ((axes,), (length, axes)) or not (np.isfinite(found).all() and (found > 0).all()):
        got = found.tolist() if found.size <= 4 else found.shape
        raise refuse(
            name, f"({axes},) or ({length}, {axes}), finite and > 0 mm", got, "a cohort has it as .spacing_mm"
        )
    return np.broadcast_to(found, (length, axes))


def columns(table: pd.DataFrame, wanted: Collection[str], name: str = "table") -> pd.DataFrame:
    """A non-empty table that has these columns.

    Args:
        table: A pandas table.
        wanted: Names of columns; none if all that are there are used.
        name: Name of the argument.

    Raises:
        ValueError: If it is no table, is empty, or has a wanted column not at all or twice; the message lists
            those that are there.

    Example:
        >>> import pandas as pd
        >>> len(columns(pd.DataFrame({"risk": [0.1]}), ["risk"]))
        1
    """
    if not hasattr(table, "columns"):
        raise refuse(name, f"a pandas table with columns {list(wanted)}", type(table).__name__)
    there = list(table.columns)
    missing = [column for column in wanted if column not in there]
    if missing:
        expected, fix = f"a table with columns {list(wanted)}", f"it has {there}"
        raise refuse(name, expected, f"none called {missing}", fix)
    doubled = [column for column in list(wanted) or dict.fromkeys(there) if there.count(column) > 1]
    if doubled:
        raise refuse(name, "a table with one column of each name", f"{doubled} more than once")
    if not len(table):
        raise refuse(name, "a table with rows", "an empty one")
    return table


def instance(name: str, value: object, kind: type) -> None:
    """Something of a class.

    Args:
        name: Name of the argument.
        value: Its value.
        kind: The class.

    Raises:
        ValueError: If it is of another class.

    Example:
        >>> instance("card", [], dict)
        Traceback (most recent call last):
        ValueError: card must be a dict, got list
    """
    if not isinstance(value, kind):
        raise refuse(name, f"a {kind.__name__}", type(value).__name__)


def fitted(method: object, ready: Ready | None) -> Ready:
    """What the `fit` of a method sets, if it has been called.

    Args:
        method: The method, for the message.
        ready: What `fit` sets; None means that it was not called.

    Returns:
        `ready` itself.

    Raises:
        ValueError: If it was not.

    Example:
        >>> fitted(0.5, None)
        Traceback (most recent call last):
        ValueError: float is not fitted: call .fit(network, source_cohort) first
    """
    if ready is None:
        raise ValueError(f"{type(method).__name__} is not fitted: call .fit(network, source_cohort) first")
    return ready


def _range(low: float | None, high: float | None, open_low: bool = False, open_high: bool = False) -> str:
    has_low, has_high = low not in (None, -math.inf), high not in (None, math.inf)
    if has_low and has_high:
        return f" in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    if has_low:
        return f" {'>' if open_low else '>='} {low:g}"
    return f" {'<' if open_high else '<='} {high:g}" if has_high else ""


def _scalar(value: object) -> object:
    """A plain Python number from one of numpy or torch, or an array without axes; anything else as it is."""
    is_array = _is_tensor(value) or (isinstance(value, np.ndarray) and not np.ma.isMaskedArray(value))
    if isinstance(value, np.generic) or (is_array and getattr(value, "ndim", 1) == 0):
        value = to_numpy(value).item()
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def _is_tensor(values: object) -> TypeGuard[Tensor]:
    return hasattr(values, "detach")  # known without importing torch


def _is_dense(tensor: Tensor) -> bool:
    real = str(tensor.dtype).removeprefix("torch.").startswith(("float", "bfloat", "int", "uint"))
    return real and str(tensor.layout) == "torch.strided" and not tensor.is_meta


def _real(name: str, values: object) -> np.ndarray:
    """Real numbers or booleans as an array."""
    expected, fix = "real numbers, as an array, tensor or list", "convert it first"
    if _is_tensor(values):
        if not (_is_dense(values) or str(values.dtype) == "torch.bool"):
            raise refuse(name, expected, f"a tensor of {values.dtype}, {values.layout}", fix)
        return to_numpy(values)
    if isinstance(values, np.ma.MaskedArray):
        raise refuse(name, expected, "a masked array", "leave the masked cases out, or fill them")
    try:
        found = np.asarray(values)
    except (ValueError, TypeError) as error:  # ragged
        raise refuse(name, expected, f"{type(values).__name__} ({error})", fix) from None
    # Pandas columns with missing values and lists with None; text that looks like a number is no number.
    if found.dtype.kind == "O" and not any(isinstance(value, str | bytes) for value in found.flat):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            found = found.astype(np.float64)
    if found.dtype.kind not in "biuf":
        raise refuse(name, expected, f"{found.dtype}", fix)
    return found.astype(found.dtype.newbyteorder("="), copy=False)
