"""The profiles say the numbers that the chapters use."""

from pathlib import Path

import pytest

from segconf_lite.profiles import FULL, LITE, profile_named

ROOT = Path(__file__).parents[1]


def test_no_chapter_takes_a_fraction_of_the_shared_networks_steps():
    """The shared networks are trained as long as the profile says."""
    for path in [*(ROOT / "notebooks").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        assert "steps * 2 // 3" not in path.read_text("utf-8"), path.name
        assert "steps_real *" not in path.read_text("utf-8"), path.name
    assert (LITE.steps, LITE.steps_real, FULL.steps, FULL.steps_real) == (200, 133, 666, 400)


def test_sizes_may_be_replaced_and_nought_keeps_them():
    assert profile_named("full", n_train=12, n_test=0).n_train == 12
    assert profile_named("full", n_test=0) == FULL
    with pytest.raises(ValueError, match=r"profile must be 'lite' .* or 'full' .*, got 'medium'"):
        profile_named("medium")
