"""The command `segconf`."""

import os
import re
import subprocess
import sys
import tempfile
import types

import pytest

from segconf_lite import __version__, cli, doctor, notebook, resources

SOURCE = (
    "# %% [markdown]\n# **Time:** 1 min\n\n"
    '# %% tags=["parameters"]\nseed = 0\nname = "lite"\ncases_out = ""\n'
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with one notebook, of which running is only recorded."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_first.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runs(folder, monkeypatch):
    calls = []

    def execute(path, out, parameters):
        calls.append((path.as_posix(), out.as_posix(), parameters))
        return 30.0

    monkeypatch.setattr(notebook, "execute", execute)
    return calls


def test_doctor_says_what_is_there(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SEGCONF_DATA", str(tmp_path))
    (tmp_path / "gm_challenge").mkdir()
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"segconf_lite {__version__} on Python" in said
    for word in ("torch", "papermill", "device", "threads", "bf16", "free disk", str(tmp_path)):
        assert word in said
    assert str(tmp_path / "gm_challenge") in said


def test_doctor_fails_if_a_required_package_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_required_packages", lambda: ["numpy", "no-such-package"])
    assert cli.main(["doctor"]) == 1
    caught = capsys.readouterr()
    assert "no-such-packageMISSING" in caught.out.replace(" ", "")
    assert "Missing and required: no-such-package." in caught.err
    assert "pip install" in caught.err


def test_doctor_without_data_says_how_to_get_it(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("SEGCONF_DATA", raising=False)
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))  # no download there either
    assert cli.main(["doctor"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "SEGCONF_DATA not set" in said
    assert "gm_challenge missing; get it with: segconf data get gm_challenge" in said


def test_doctor_advises_by_the_way_of_installing(monkeypatch):
    assert doctor.advice() == 'pip install -c constraints.txt -e ".[all]"'
    monkeypatch.setattr(resources, "is_installed", lambda _: True)
    assert doctor.advice() == 'pip install "segconf-lite[all]"'


def test_data_without_a_name_lists_the_names(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("SEGCONF_DATA", raising=False)
    monkeypatch.setenv("SEGCONF_HOME", str(tmp_path))
    assert cli.main(["data"]) == 0
    said = capsys.readouterr().out
    for name in ("gm_challenge", "retina_chase_hrf", "published_results"):
        assert name in said
    assert cli.main(["data", "nope"]) == 2
    assert "'gm_challenge', 'retina_chase_hrf', 'published_results'" in capsys.readouterr().err


def test_notebooks_are_copied_once_and_replaced_only_when_told(tmp_path, capsys):
    target = tmp_path / "series"
    assert cli.main(["notebooks", str(target)]) == 0
    names = {path.name for path in target.iterdir()}
    assert {"01_domain_shift.py", "01_domain_shift.ipynb", "90_which_eaurc.ipynb"} <= names
    assert f"{len(names)} notebook files of version {__version__} are in {target}" in capsys.readouterr().out
    (target / "01_domain_shift.py").write_text("changed")
    assert cli.main(["notebooks", str(target)]) == 1
    assert "holds other versions of 01_domain_shift.py; nothing was copied" in capsys.readouterr().err
    assert cli.main(["notebooks", str(target), "--force"]) == 0
    assert (target / "01_domain_shift.py").read_text("utf-8") != "changed"


def test_run_by_number(runs, capsys):
    assert cli.main(["run", "01"]) == 0
    assert runs == [("notebooks/01_first.py", "_build/executed/01_first.ipynb", {})]
    assert "done in 0.5 min (stated: 1)" in capsys.readouterr().out


def test_run_reads_parameters_and_keeps_the_plain_result(runs):
    assert cli.main(["run", "01", "-p", "seed", "3", "-p", "name", "full"]) == 0
    (call,) = runs
    assert re.fullmatch(r"_build/runs/01_first__seed=3_name=full__[0-9a-f]{12}\.ipynb", call[1])
    assert call[2] == {"seed": 3, "name": "full"}


def test_a_table_of_cases_is_written_where_the_caller_is_not_beside_the_notebook(runs, folder):
    assert cli.main(["run", "01", "-p", "cases_out", "out/cases.csv"]) == 0
    assert runs[0][2] == {"cases_out": str(folder / "out" / "cases.csv")}


def test_run_to_a_path(runs):
    assert cli.main(["run", "notebooks/01_first.py", "--out", "here.ipynb"]) == 0
    assert runs[0][1] == "here.ipynb"


def test_run_refuses_unknown_parameters_and_says_which_are_known(runs, capsys):
    assert cli.main(["run", "01", "-p", "sead", "3"]) == 2
    assert runs == []
    assert (
        "segconf run: 01_first.py has no parameter sead; it has: seed=0, name='lite', cases_out=''"
        in capsys.readouterr().err
    )


def test_run_of_a_failing_notebook_returns_one(folder, monkeypatch, capsys):
    def execute(path, out, parameters):
        raise notebook.NotebookFailedError("cell 3 failed", out)

    monkeypatch.setattr(notebook, "execute", execute)
    assert cli.main(["run", "01"]) == 1
    assert "cell 3 failed" in capsys.readouterr().err


def test_run_without_the_extra_packages_says_how_to_get_them(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jupytext", None)  # as if it were not installed
    assert cli.main(["run", "01"]) == 1
    assert "jupytext" in (said := capsys.readouterr().err)
    assert "install it with: pip install" in said


def test_a_slow_run_is_pointed_out(folder, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "execute", lambda *_: 600.0)
    assert cli.main(["run", "01"]) == 0
    assert "MUCH LONGER" in capsys.readouterr().out


def test_wrong_usage_exits_with_two(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["fly"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["run", "01", "-p", "seed", "1:30"],
        ["run", "01", "-p", "seed", ""],
        ["run", "01", "-p", "seed", "2026-01-31"],
        ["run", "01", "-p", "seed", "1", "-p", "seed", "2"],
        ["run", "01", "--out", "x.html"],
        ["run", "**"],
        ["run", "/x"],
        ["run", "["],
        ["run", ""],
        ["run", "a\nb"],
        ["sweep", "01", "-p", "seed", "1,,2"],
        ["sweep", "01", "-p", "seed", "1", "--jobs", "0"],
        ["data", "../x"],
    ],
)
def test_a_bad_value_is_one_line_and_exit_code_two(folder, words, capsys):
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"segconf {words[0]}: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "words", [[], ["sweep", "01"], ["run"], ["sweep", "01", "-p", "seed", "1", "--jobs", "x"]]
)
def test_a_missing_or_unreadable_word_is_one_line_too(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def python(code, tmp_path, **changes):
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "SEGCONF_HOME", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=tmp_path, env=environment | changes, capture_output=True, text=True, check=False
    )


def test_without_a_home_folder_the_doctor_names_another_one(tmp_path):
    code = (
        "import pathlib, pooch\n"
        "def no_home(*_): raise RuntimeError('no home')\n"
        "pathlib.Path.expanduser = pathlib.Path.home = pooch.os_cache = no_home\n"
        "from segconf_lite import cli; raise SystemExit(cli.main(['doctor']))"
    )
    done = python(code, tmp_path, SEGCONF_DATA="")
    assert done.returncode == 0, done.stderr
    assert f"{tempfile.gettempdir()}/segconf_lite-" in done.stdout


def test_without_standard_error_a_bad_value_still_has_its_exit_code(tmp_path):
    for words in (["run", "nothing"], ["fly"]):
        code = f"import sys; sys.stderr = None; from segconf_lite import cli; sys.exit(cli.main({words!r}))"
        assert python(code, tmp_path).returncode == 2


def test_probe_prints_the_modules_and_takes_weights_without_code(tmp_path, monkeypatch, capsys):
    import torch
    from torch import nn

    source = "from segconf_lite.models import UNet\n\nbuild = lambda: UNet(n_classes=2, channels=(4, 8))\n"
    (tmp_path / "a_network.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["probe", "a_network:build", "--size", "16"]) == 0
    assert "SegmentationDistortion(module='bottleneck')" in capsys.readouterr().out
    state = sys.modules["a_network"].build().state_dict()
    torch.save(state, "weights.pt")
    assert cli.main(["probe", "a_network:build", "--size", "16", "--weights", "weights.pt"]) == 0
    torch.save(nn.Conv2d(1, 2, 1), "pickled.pt")
    assert cli.main(["probe", "a_network:build", "--weights", "pickled.pt"]) == 2
    assert "a file of weights only" in capsys.readouterr().err
    assert cli.main(["probe", "a_network:no_such_name"]) == 2
    assert "PACKAGE.MODULE:NAME" in capsys.readouterr().err


def test_the_shell_is_told_the_next_words_where_argcomplete_asks(monkeypatch, capsys):
    asked = []
    monkeypatch.setitem(sys.modules, "argcomplete", types.SimpleNamespace(autocomplete=asked.append))
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    assert cli.main(["claims", "--chapter", "1"]) == 0
    (parser,) = asked
    assert "claims" in parser.format_help()
    monkeypatch.delenv("_ARGCOMPLETE")
    cli.main(["claims", "--chapter", "1"])
    assert len(asked) == 1  # and nothing is imported otherwise
