"""The attributes table of the made-up company, with missing values and superseded rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.synthetic.company import AFTER, DAY, PAST, PERIOD, TIME, Chunk, user_ids
from jobs.synthetic.event_texts import TRAITS

ATTRIBUTES = pa.schema(
    [
        ("user_id", pa.string()),
        ("valid_from", TIME),
        ("age", pa.int32()),
        ("gender", pa.string()),
        ("city_tier", pa.string()),
        ("phone_brand", pa.string()),
        ("membership_days", pa.int32()),
        ("occupation", pa.string()),
    ]
)
MISSING = {
    "age": 0.08,
    "gender": 0.05,
    "city_tier": 0.06,
    "phone_brand": 0.1,
    "membership_days": 0.02,
    "occupation": 0.2,
}
MOVED = 0.15
"""Share of users with a second row that supersedes the first."""
BROKEN = 0.003
PHONES = ("Huawei", "Apple", "Xiaomi", "Oppo", "Vivo", "Honor", "Samsung")
PHONE_SHARES = (0.24, 0.16, 0.2, 0.14, 0.12, 0.09, 0.05)
OCCUPATIONS = (
    "office",
    "student",
    "teacher",
    "engineer",
    "driver",
    "nurse",
    "shop owner",
    "retired",
    "artist",
    "civil servant",
)


def attribute_rows(chunk: Chunk, cut: int) -> pa.Table:
    """Return a chunk's attribute rows with valid_from before `cut` (microseconds), some without a user or a time."""
    rng = chunk.random("attributes")
    rows = pa.concat_tables([_rows(chunk, rng, False), _rows(chunk, rng, True)])
    broken = rows.take(pa.array(rng.integers(len(rows), size=max(2, round(BROKEN * len(rows))))))
    no_user = broken.slice(0, len(broken) // 2)
    no_user = no_user.set_column(0, ATTRIBUTES.field("user_id"), pa.nulls(len(no_user), pa.string()))
    no_time = broken.slice(len(broken) // 2)
    no_time = no_time.set_column(1, ATTRIBUTES.field("valid_from"), pa.nulls(len(no_time), TIME))
    dated = pa.concat_tables([rows, no_user])
    return pa.concat_tables([dated.filter(pc.less(dated["valid_from"], pa.scalar(cut, TIME))), no_time])


def _rows(chunk: Chunk, rng: np.random.Generator, second: bool) -> pa.Table:
    """Return each user's first row, or the second row of some users, which supersedes it."""
    n, company = chunk.users, chunk.company
    trait = dict(zip(TRAITS, chunk.traits_on_first_day().T, strict=True))
    begin = company.midnight // DAY - PAST * PERIOD
    joined = chunk.joined()
    day = joined if not second else np.maximum(joined, begin) + rng.integers(1, (PAST + AFTER) * PERIOD, n)
    tier = 0.25 * trait["wealth"] + rng.normal(size=n)
    phone = 0.25 * trait["wealth"] + 0.2 * trait["youth"] + rng.normal(size=n)
    work = 0.3 * trait["learning"] - 0.2 * trait["commute"] + rng.normal(size=n)
    values = {
        "age": np.clip(40 - 5 * trait["youth"] + rng.normal(0, 12, n), 16, 85).astype(np.int32),
        "gender": np.where(rng.random(n) < 0.5, "female", "male"),
        "city_tier": np.array(["4", "3", "2", "1"])[np.digitize(tier, [-0.8, 0.1, 0.9])],
        "phone_brand": np.array(PHONES)[np.where(phone > 1.1, 1, rng.choice(7, p=PHONE_SHARES, size=n))],
        "membership_days": (day - joined).astype(np.int32) + rng.integers(0, 30, n).astype(np.int32),
        "occupation": np.array(OCCUPATIONS)[np.where(work > 1.2, 3, rng.integers(len(OCCUPATIONS), size=n))],
    }
    columns = {
        "user_id": user_ids(chunk.start + np.arange(n)),
        "valid_from": pa.array(day * DAY + rng.integers(3600, 80_000, n) * 1_000_000, TIME),
    }
    for name, value in values.items():
        columns[name] = pa.array(value, ATTRIBUTES.field(name).type, mask=rng.random(n) < MISSING[name])
    rows = pa.table(columns, schema=ATTRIBUTES)
    return rows.filter(pa.array(rng.random(n) < MOVED)) if second else rows
