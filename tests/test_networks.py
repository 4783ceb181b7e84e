"""Networks of other makers and forms with the methods: a part of what benchmarks/networks.py runs."""

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest
from networks_page import with_networks

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def networks():
    spec = importlib.util.spec_from_file_location("networks", BENCHMARKS / "networks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["networks"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["networks"]


WORKS = {
    "MONAI UNet": ["MCDropout", "SegmentationDistortion"],
    "MONAI DynUNet, deep supervision": ["FragilityMap, decoder", "FragilityMap, mask"],
    "tuple of logits and features": ["FragilityMap, decoder", "QualityPredictor"],
    "list over resolutions": ["TestTimeAugmentation", "SegmentationDistortion"],
    "dictionary out and aux": ["MCDropout", "PooledMahalanobis", "FragilityMap, head"],
    "object with logits": ["SoftDiceConfidence"],
    "softmax inside, adapted": ["PredictiveEntropy", "SegmentationDistortion"],
    "one sigmoid channel, adapted": ["MaximumProbability", "QualityPredictor"],
    "one channel after a sigmoid, adapted": ["ProbabilityMargin"],
    "stack of predictions, adapted": ["ScoreAgreement"],
    "colour images": ["QualityPredictor", "FragilityMap, head"],
    "sides that do not fit, adapted": ["PredictiveEntropy", "LatentMahalanobis"],
    "no parameters": ["SoftDiceConfidence"],
    "works in place on its images": ["TestTimeAugmentation"],
    "scripted": ["PredictiveEntropy", "TestTimeAugmentation"],
    "DataParallel": ["PooledMahalanobis"],
    "half precision": ["PredictiveEntropy", "LatentMahalanobis", "SegmentationDistortion"],
}
REFUSED = {
    "two outputs of one size": {"PredictiveEntropy": r"choose one, e\.g\. adapt\(network, output=0\)"},
    "stack of predictions": {"MCDropout": r"write adapt\(network, output=0\)"},
    "softmax inside": {"QualityPredictor": r'write adapt\(network, output="probabilities"\)'},
    "one sigmoid channel": {"DeepEnsemble, members": r'write adapt\(network, output="sigmoid"\)'},
    "other number of classes": {"PredictiveEntropy": "the cohort's 4 classes, got 2; pass the cohort"},
    "colour network, grey images": {"PredictiveEntropy": r"write adapt\(network, channels=\(0, 0, 0\)\)"},
    "sides that do not fit": {"SegmentationDistortion": r"write adapt\(network, pad_to=4\)"},
    "no parameters": {"MCDropout": "without it every pass is equal"},
    "scripted": {"MCDropout": "pass the network that it was made from"},
    "compiled": {"PooledMahalanobis": r"pass network\._orig_mod"},
    "DataParallel": {"FragilityMap, decoder": r"pass network\.module"},
    "half precision": {"FragilityMap, mask": r"pass copy\.deepcopy\(network\)\.float\(\)"},
    "tuple of logits and features": {"DeepEnsemble": r"DeepEnsemble\(members=\[second, third\]\)"},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WORKS)
def test_a_method_works_on_a_foreign_network(networks, name):
    rows = networks.column(name, WORKS[name])
    assert {row["method"]: row["outcome"] for row in rows} == dict.fromkeys(WORKS[name], "works")


@pytest.mark.parametrize("name", REFUSED)
def test_a_method_says_what_to_write_instead(networks, name):
    for row in networks.column(name, list(REFUSED[name])):
        assert row["outcome"].startswith("refuses: ")
        with pytest.raises(ValueError, match=REFUSED[name][row["method"]]):
            raise ValueError(row["outcome"])


def test_a_network_of_a_missing_package_is_counted(networks, monkeypatch):
    monkeypatch.setitem(networks.CASES, "missing", networks.Case(networks.needs("no_such_package", None)))
    assert [row["outcome"] for row in networks.column("missing", ["MCDropout"])] == ["skipped"]


def test_the_stored_table_is_whole_and_has_nothing_wrong(networks):
    table = pd.read_csv(networks.TABLE)
    assert set(table["network"]) == set(networks.CASES)
    assert set(table["method"]) == set(networks.METHODS)
    assert len(table) == len(networks.CASES) * len(networks.METHODS)
    kinds = table["outcome"].str.partition(":")[0].value_counts()
    assert set(kinds.index) == {"works", "refuses", "skipped"}


def test_the_page_says_each_remedy_once(tmp_path):
    outcomes = [
        ("first", "MCDropout", "works"),
        ("first", "FragilityMap, head", "refuses: a, got b; c; write this"),
        ("second", "MCDropout", "refuses: a; write that"),
        ("second", "FragilityMap, head", "refuses: b; write that"),
        ("third", "MCDropout", "skipped"),
    ]
    table = pd.DataFrame(outcomes, columns=["network", "method", "outcome"])
    table.to_csv(tmp_path / "networks.csv", index=False)
    page = with_networks("before\n<!-- networks -->\n", tmp_path / "networks.csv")
    assert "Of 4 pairs of 2 networks and 2 methods, 1 work and 3 are refused." in page
    assert "not tried: third." in page
    assert "| first | MCDropout | `write this` |" in page
    assert "| second | none | `write that` |" in page
