"""The page "What held up" shows the texts of the register; it does not obey them."""

import json
import shutil
from pathlib import Path

from ledger_page import ledger_markdown

BOOK = Path(__file__).parents[2] / "book"


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
