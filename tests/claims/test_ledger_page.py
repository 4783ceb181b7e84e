"""The page "What held up" shows the texts of the register; it does not obey them."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ledger_page import ledger_markdown

from segconf_lite.claims import read_claims

BOOK = Path(__file__).parents[2] / "book"
# A page of three rows, as little of it as ledger.js asks for.
FILTERED = """
const cell = (textContent) => ({ textContent });
const row = (verdict, text) => ({ cells: [cell(verdict)], textContent: `${verdict} ${text}`, hidden: false });
const rows = [row("holds, negligible", "Soft Dice"), row("fails", "Soft Dice"), row("holds", "Entropy")];
const head = { rows: [{ cells: %s.map(cell) }] };
const table = { classList: { add() {} }, tBodies: [{ rows }], tHead: head, before() {} };
const made = [];
const element = () => {
  const each = { value: "", append() {}, addEventListener(_, call) { each.call = call; } };
  made.push(each);
  return each;
};
globalThis.Option = class {};
let start;
globalThis.document = {
  createElement: element,
  querySelectorAll: () => [table],
  addEventListener: (_, call) => { start = call; },
};
require("vm").runInThisContext(require("fs").readFileSync("book/_static/ledger.js", "utf-8"));
start();
const [verdict, words, count] = made;
const state = () => [rows.filter((each) => !each.hidden).length, count.textContent];
const found = [state()];
verdict.value = "holds"; words.value = "dice soft"; words.call(); found.push(state());
words.value = "nothing"; words.call(); found.push(state());
console.log(JSON.stringify(found));
"""


def test_html_in_the_register_and_in_records_is_shown_and_not_obeyed(tmp_path):
    bad = "<img src=x onerror=alert(1)> | b"
    claim = {
        "id": "a-claim",
        "sentence": f"Mean {bad}",
        "source": bad,
        "chapter": 1,
        "statistic": "mean",
        "columns": {"value": bad},
        "direction": "greater",
        "seeds": 2,
        "registered": "2026-01-01",
        "each": "domain",
        "within": bad,
    }
    (tmp_path / "claims.yml").write_text(json.dumps([claim]))
    (tmp_path / "results/claims").mkdir(parents=True)
    group = {"estimate": 1.0, "low": 0.5, "high": 1.5, "verdict": "holds", "people": 3}
    group |= {"p_holds": 0.01, "p_fails": 0.99}
    record = {
        "verdict": "holds",
        "p_holds": 0.01,
        "p_fails": 0.99,
        "groups": {bad: group, "B": group},
        "by_seed": {},
        "seeds": [1, 2],
        "runs": [],
    }
    path = tmp_path / "results/claims/a-claim.lite.json"
    path.write_text(json.dumps({**record, "registered_as": "0" * 12}))
    page = ledger_markdown(tmp_path)
    assert "<" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt; &#124; b") == 6


def test_the_page_of_the_book_names_every_claim(tmp_path):
    shutil.copytree(BOOK / "results/claims", tmp_path / "results/claims")
    shutil.copy(BOOK / "claims.yml", tmp_path)
    page = ledger_markdown(tmp_path)
    assert page.count("### ") == page.count(")=\n")
    assert "| **holds** | ● | stands | < 0.1 % | [On scanner F, which looks near to A" in page
    assert "**undecided: too few people (1; at least 2)**" in page


def test_todays_words_stand_above_the_registered_sentence_and_the_record_is_one_click_away():
    claims = read_claims(BOOK / "claims.yml")
    shown = [claim for claim in claims.values() if claim.display]
    assert len(shown) > 20
    page = html.unescape(ledger_markdown(BOOK))
    for claim in shown:
        section = page.split(f"({claim.id})=")[1].split(")=")[0]
        assert section.splitlines()[1] == f"### {claim.display}"
        assert f"Registered sentence: {claim.sentence}" in section
        assert f"[{claim.display}](#{claim.id})" in page
    assert page.count("Registered sentence: ") == len(shown)
    linked = re.findall(r"\[stored record\]\(https://github.com/[^)]*/main/([^)]*)\)", page)
    assert len(linked) == page.count("| | estimate |") > 70
    assert all((BOOK.parent / path).is_file() for path in linked)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_filter_finds_the_table_of_claims_by_its_heads():
    head = next(line for line in ledger_markdown(BOOK).splitlines() if line.startswith("| verdict"))
    names = ",".join(name.strip() for name in head.strip("|").split("|"))
    assert f'"{names}"' in (BOOK / "_static/ledger.js").read_text("utf-8")
    run = subprocess.run(
        ["node", "-"],
        input=FILTERED % json.dumps(names.split(",")),
        capture_output=True,
        text=True,
        check=True,
        cwd=BOOK.parent,
    )
    assert json.loads(run.stdout) == [[3, "3 of 3 claims"], [1, "1 of 3 claims"], [0, "0 of 3 claims"]]
