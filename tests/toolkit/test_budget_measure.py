"""What a search does with a metric that is undefined on its data."""

import dataclasses

import pytest
from support.auto_worlds import REPORT

from lstm_edge.precision_search.journal import Journal
from lstm_edge.precision_search.measure import Built, Workbench
from lstm_edge_runtime.errors import DataError

OWN = dataclasses.replace(REPORT, metric="own", unit="points", data="few.npz", samples=2, budget="1", max_drop=1.0)


@pytest.mark.parametrize(("field", "shown"), [("drop_bound", "high"), ("candidate_low", "value_low"), ("drop", "drop")])
def test_an_undefined_bound_is_one_sentence(tmp_path, field, shown):
    report = dataclasses.replace(OWN, **{field: float("nan")})
    journal = Journal(tmp_path / "out.search", {}, resume=False)
    judges = {"tuning": lambda _data: report, "held-out": lambda _data: report}
    bench = Workbench(build=lambda _parts: Built(data=b"x", saved=1), judges=judges, journal=journal)
    with pytest.raises(DataError, match=rf"undefined on the tuning data \(not finite: {shown}\)"):
        bench.evaluate({"head": "int8"}, "search")
    journal.remove()


def test_an_exact_candidate_has_no_ratio_and_is_no_error(tmp_path):
    journal = Journal(tmp_path / "out.search", {}, resume=False)
    judges = {"tuning": lambda _data: OWN, "held-out": lambda _data: OWN}
    bench = Workbench(build=lambda _parts: Built(data=b"x", saved=1), judges=judges, journal=journal)
    assert bench.evaluate({"head": "int8"}, "search").snr_db is None
    journal.remove()
