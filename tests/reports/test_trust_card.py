"""Laws of the trust card: its promises are kept, and it says when they do not count."""

import json

import numpy as np
import pandas as pd
import pytest

from segconf_lite.evaluation import conformal_quantile
from segconf_lite.reports import trust_card_text, trust_cards

NAMED = {"uncertainties": ["entropy"], "properties": ["noise"], "features": ["x", "y"]}


def cases(n, seed, **columns):
    rng = np.random.default_rng(seed)
    quality = rng.beta(8, 2, n)
    table = pd.DataFrame({"quality": quality, "predicted": np.clip(quality + rng.normal(0, 0.05, n), 0, 1)})
    given = {name: rng.normal(size=n) for name in ("entropy", "noise", "x", "y")}
    return table.assign(**given | columns).set_index(pd.Index([f"s{k}" for k in range(n)]))


def test_bound_and_interval_cover_at_their_level():
    new = cases(1000, 1)
    cards = pd.DataFrame(trust_cards(new, cases(499, 0)))
    true = new["quality"].to_numpy()
    assert (true >= cards["bound"]).mean() == pytest.approx(0.9, abs=0.04)
    assert ((true >= cards["low"]) & (true <= cards["high"])).mean() == pytest.approx(0.9, abs=0.04)
    assert (cards["low"] <= cards["bound"]).all()


def test_bound_is_the_conformal_one_and_risk_follows_from_it():
    old, new = cases(99, 0), cases(40, 1)
    margin = conformal_quantile(old["predicted"] - old["quality"], level=0.9)
    for card, (_, row) in zip(trust_cards(new, old, failed_below=0.75), new.iterrows(), strict=True):
        assert card["bound"] == pytest.approx(np.clip(row["predicted"] - margin, 0, 1))
        assert (card["risk"] == "low") == (card["bound"] >= 0.75)
        assert (card["risk"] == "high") == (card["high"] < 0.75)


def test_a_case_among_the_calibration_cases_violates_nothing_and_is_its_own_neighbour():
    old = cases(49, 0)
    for name, card in zip(old.index, trust_cards(old, old, **NAMED), strict=True):
        assert (card["nearest"][0], card["distances"][0]) == (name, 0)
        assert card["promise_counts"]
    ranks = [card["percentiles"]["entropy"] for card in trust_cards(old, old, **NAMED)]
    assert np.mean(ranks) == pytest.approx(50)
    assert sorted(ranks) == pytest.approx((np.arange(49) + 0.5) / 49 * 100)


def test_what_is_outside_or_high_is_named():
    old = cases(49, 0)
    odd = cases(1, 1, noise=99.0, entropy=99.0)
    (card,) = trust_cards(odd, old, **NAMED)
    assert (card["violated"], card["high_uncertainties"]) == (["noise"], ["entropy"])
    assert not card["promise_counts"]
    assert "noise out of range, so the promise DOES NOT COUNT" in trust_card_text(card)
    assert json.loads(json.dumps(card)) == card


def test_nearest_cases_may_come_from_another_table():
    train = cases(5, 3)[["x", "y"]]
    (card,) = trust_cards(cases(1, 1), cases(49, 0), training=train, features=["x", "y"], n_nearest=9)
    assert sorted(card["nearest"]) == sorted(train.index)
    assert (np.diff(card["distances"]) >= 0).all()


@pytest.mark.parametrize(
    ("new", "old", "named", "message"),
    [
        (cases(2, 1).drop(columns="noise"), cases(49, 0), NAMED, "noise"),
        (cases(2, 1), cases(18, 0), {}, "at least .* = 19 cases, got 18"),
        (cases(2, 1, predicted=1.5), cases(49, 0), {}, r"cases: predicted and quality .*\[0, 1\]"),
        (cases(2, 1, x=np.nan), cases(49, 0), NAMED, "finite"),
    ],
)
def test_bad_tables_are_refused(new, old, named, message):
    with pytest.raises(ValueError, match=message):
        trust_cards(new, old, **named)


@pytest.mark.parametrize("card", [{}, {"predicted": 0.8}])
def test_another_dictionary_is_no_card(card):
    with pytest.raises(ValueError, match=r"card must be one of those .* one without \['case'"):
        trust_card_text(card)
