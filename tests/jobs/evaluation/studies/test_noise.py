"""Noise in profiles, against literal values and for its share."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from jobs.evaluation.studies.noise import with_noise
from model.data.config import EventSource
from tests.support.made_up import EVENT
from tests.support.training_tables import LABELS_AS_OF


def events(as_of: datetime, *days_and_texts: tuple[float, str]) -> list[dict]:
    return [{"event_time": as_of - timedelta(days=days), "text": text, "gap": 0} for days, text in days_and_texts]


def test_noise_of_two_users():
    """Each of two users has one kind of event, so the noise is known: as many events of the other, as long ago."""
    later = LABELS_AS_OF + timedelta(days=100)
    rows = [
        {"as_of": LABELS_AS_OF, "bill": events(LABELS_AS_OF, (40, "a"), (9.5, "b"), (9.5, "c")), "ages": {"bill": 3}},
        {"as_of": later, "bill": events(later, (20, "x"), (20, "x"), (20, "x")), "ages": {"bill": 4}},
        {"as_of": LABELS_AS_OF, "bill": [], "ages": {"bill": None}},
    ]
    table = pa.Table.from_pylist(
        rows,
        pa.schema(
            {"as_of": pa.timestamp("us", "UTC"), "bill": pa.list_(EVENT), "ages": pa.struct([("bill", pa.int32())])}
        ),
    )
    result = with_noise(table, [EventSource(name="bill", max_events=5, max_tokens=8)], 0.5)
    assert result.schema == table.schema
    first, second, nobody = result.to_pylist()
    # Six events, of which the last five are kept, without a; 20 to 9.5 days are 10 whole days, band 3.
    assert [(event["text"], event["gap"]) for event in first["bill"]] == [
        ("x", -1),
        ("x", 0),
        ("x", 0),
        ("b", 3),
        ("c", 0),
    ]
    assert first["bill"][0]["event_time"] == LABELS_AS_OF - timedelta(days=20)
    assert first["ages"] == {"bill": 3}
    assert len(second["bill"]) == 5
    assert [event["text"] for event in second["bill"]].count("x") == 3
    times = [event["event_time"] for event in second["bill"]]
    assert times == sorted(times)
    assert {later - time for time in times} <= {timedelta(days=days) for days in (40, 20, 9.5)}
    last = (later - times[-1]).days
    assert second["ages"] == {"bill": int(np.log2(1 + last))}
    assert (nobody["bill"], nobody["ages"]) == ([], {"bill": None})


def test_noise_has_its_share_and_no_event_of_the_user(study_profiles):
    sources = [EventSource(name="bill", max_events=1000, max_tokens=16)]
    marked = study_profiles.set_column(
        study_profiles.column_names.index("bill"),
        "bill",
        pa.array(
            [
                [event | {"text": str(number)} for event in events]
                for number, events in enumerate(study_profiles["bill"].to_pylist())
            ],
            pa.list_(EVENT),
        ),
    )
    for share in (0.2, 0.6):
        noisy = with_noise(marked, sources, share, seed=1)["bill"].to_pylist()
        for number, (before, after) in enumerate(zip(marked["bill"].to_pylist(), noisy, strict=True)):
            own = [event for event in after if event["text"] == str(number)]
            assert [event["event_time"] for event in own] == [event["event_time"] for event in before]
            assert len(after) - len(own) == round(len(before) * share / (1 - share))
    assert with_noise(marked, sources, 0.6, seed=1).equals(with_noise(marked, sources, 0.6, seed=1))
