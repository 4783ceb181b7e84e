"""Every number in the text that is a link is the stored one, and converted chapters have no other results."""

import evidence
import multiplicity
import pandas as pd
import pytest
import style
from evidence import bare, exceptions, mended, problems, sources, with_targets
from multiplicity import dagger_note, with_daggers

from segconf_lite.claims import ledger

CLAIM = "entropy-is-silent-on-failures"
NOTEBOOKS = evidence.BOOK.parent / "notebooks"


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.stem)
def test_links_are_as_stored(path):
    """After a change of the stored tables: `python book/evidence.py update`, then `make notebooks`."""
    assert problems(path) == []


@pytest.mark.parametrize("chapter", exceptions())
def test_converted_chapters_have_no_bare_results(chapter):
    allowed = exceptions()[chapter]
    assert len(allowed) <= 15
    assert all(len(reason) > 10 for reason in allowed.values())
    (path,) = NOTEBOOKS.glob(f"{chapter}_*.py")
    assert bare(path, allowed) == []


def test_numbers_of_a_claim_come_from_its_record():
    group = ledger.read_record(evidence.RESULTS, CLAIM, "lite")["groups"]["D"]
    stored = f"{group['estimate']:.2f} [{group['low']:.2f}, {group['high']:.2f}]"
    assert mended("0.11 [0.10, 0.12]", f"{CLAIM}/D") == (stored, "")
    assert mended("11 %", f"{CLAIM}/D/low")[0] == f"{100 * group['low']:.0f} %"
    assert mended("0.1", f"{CLAIM}/D/high?minus")[0] == f"−{group['low']:.1f}"
    assert mended("5", f"{CLAIM}/D/estimate?x1000")[0] == f"{1000 * group['estimate']:.0f}"


def test_a_changed_verdict_is_reported_and_numbers_are_mended(tmp_path):
    page, verdict = tmp_path / "page.md", ledger.read_record(evidence.RESULTS, CLAIM, "lite")["verdict"]
    other = next(word for word in ("holds", "fails") if word != verdict)
    page.write_text(f"A [0.1](evidence:{CLAIM}/D/low)\nB [the claim](evidence:{CLAIM}?{other})", "utf-8")
    number, changed = problems(page)
    assert "stored is" in number
    assert ":2:" in changed
    assert verdict in changed
    assert problems(page, write=True) == [changed]
    assert problems(page) == [changed]


def test_a_mean_over_seeds_has_a_t_interval(monkeypatch):
    table = pd.DataFrame({"seed": [1, 2, 3, 1], "domain": list("DDDE"), "dice": [1.0, 2.0, 3.0, 9.0]})
    monkeypatch.setattr(evidence, "_frame", lambda name: (table, "results/made.csv"))
    half = 4.302653 / 3**0.5  # Student's t with two degrees of freedom
    expected = (f"2.000 [−{half - 2:.3f}, {2 + half:.3f}]", "")
    assert mended("0.000 [0.000, 0.000]", "made/dice?domain=D&across") == expected
    assert mended("0 to 0", "made/dice?domain=D&domain=E")[0] == "2 to 5"
    assert mended("Two", "made/dice/seeds?domain=D")[0] == "Three"
    assert mended("9.0", "made/dice?domain=E") == ("9.0", "")
    long = pd.DataFrame({"seed": [1, 1, 2, 2], "method": list("abab"), "value": [4.0, 1.0, 6.0, 1.0]})
    monkeypatch.setattr(evidence, "_frame", lambda name: (long, "results/made.csv"))
    assert mended("0", "made/mean_difference/a~b/estimate?wide=method&across") == ("4", "")
    monkeypatch.undo()


def test_a_side_that_changed_is_reported(monkeypatch):
    table = pd.DataFrame({"seed": [1, 2, 3], "dice": [1.0, 2.0, 3.0]})
    monkeypatch.setattr(evidence, "_frame", lambda name: (table, "results/made.csv"))
    assert "relies on ['above']" in mended("2", "made/dice/estimate?above")[1]


@pytest.mark.parametrize(
    ("text", "address", "message"),
    [
        ("1", "no-such-thing/x", "no claim and no table"),
        ("1", f"{CLAIM}/Z", "has the groups"),
        ("1 2 3 4", f"{CLAIM}/D", "4 numbers"),
        ("1", CLAIM, "has no estimate"),
        ("words", CLAIM, "names the verdict"),
        ("1", f"{CLAIM}/D?hold", "unknown words"),
        ("1", "chapter_01_full/dice", "has no column"),
        ("1", "chapter_01_full/mean_dice?domain=Z", "0 rows"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(text, address, message):
    with pytest.raises(ValueError, match=message):
        mended(text, address)


def test_links_lead_to_the_ledger_and_to_the_table():
    text = f"[0.9 [0.8, 1.0]](evidence:{CLAIM}/D) and [1](evidence:chapter_01_full/mean_dice/seeds?domain=D)"
    shown = with_targets(text, "../")
    assert shown == f"[0.9 [0.8, 1.0]](#{CLAIM}) and [1](../results/chapter_01_full.csv)"


def test_a_verdict_that_does_not_survive_the_number_of_claims_has_a_dagger():
    weak, strong = "foreground-mean-beats-image-mean", "near-but-harmful"
    table = ledger.overview().query("profile == 'lite'").drop_duplicates("id").set_index("id")
    assert table.loc[weak, "p"] < 0.05 < table.loc[weak, "p_holm"]
    assert table.loc[strong, "p_holm"] < 0.05
    relies, only_a_number = f"[it](evidence:{weak}?holds)", f"[0.1](evidence:{weak})"
    assert with_daggers(relies) == relies + multiplicity.DAGGER
    assert with_daggers(only_a_number) == only_a_number
    assert with_daggers(f"[it](evidence:{strong}?holds)") == f"[it](evidence:{strong}?holds)"
    assert dagger_note(only_a_number) == ""
    assert "](../claims.md)" in dagger_note(with_daggers(relies), "../")


def test_addresses_are_in_the_words_of_the_book():
    names = [*evidence._claims(), *pd.read_csv(evidence.RESULTS / "chapter_08_lite_cases.csv", nrows=0)]
    assert not [name for name in names if any(public in name for public in evidence.PUBLIC)]
    assert evidence.resolve("good-slices-are-flagged").target == "#alarm-rings-for-good-slices"
    addresses = [link[2] for path in sources() for link in evidence.LINK.finditer(path.read_text("utf-8"))]
    patterns = (style.private(), style.BARE_DECIMAL)
    assert not [a for a in addresses if any(p.search(a.replace("+", " ")) for p in patterns)]


def test_the_gate_finds_results_and_comparisons(tmp_path):
    notebook = tmp_path / "01_x.py"
    prose = "A Dice of 0.83, or 7 % more, `0.5` and $0.1$.\n#\n# Entropy ranks above\n# the rest."
    notebook.write_text(f"# %% [markdown]\n# {prose}\n\n# %%\nx = 0.3\n", "utf-8")
    found = bare(notebook, {})
    assert [line.split(":")[1:3] for line in found] == [
        ["2", " '0.83' is no link"],
        ["2", " '7 %' is no link"],
        ["4", " 'ranks above' is a comparison without a link"],
    ]
    allowed = {"0.83, or 7 %": "", "ranks above": "", "4 %": ""}
    assert bare(notebook, allowed) == ["01_x.py: '4 %' is allowed and not used"]
