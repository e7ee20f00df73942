"""A lake of a few users, and questions of every measure about them."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import deltalake
import pyarrow as pa
import yaml

CUT_OFFS = [date(2025, 1, 1), date(2025, 2, 1)]
LABELLED = datetime(2025, 3, 3, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
BILLS = pa.schema(
    [
        ("bill_id", pa.string()),
        ("user_id", pa.string()),
        ("paid_at", TIME),
        ("merchant", pa.string()),
        ("kind", pa.string()),
        ("amount", pa.float64()),
    ]
)
SEARCHES = pa.schema([("user_id", pa.string()), ("searched_at", TIME), ("query", pa.string())])
ATTRIBUTES = pa.schema([("user_id", pa.string()), ("valid_from", TIME), ("age", pa.int32()), ("job", pa.string())])


def question(name, axis, measure, answer, source="bill", instruction="What?", **more):
    return {
        "name": name,
        "axis": axis,
        "instruction": instruction,
        "source": source,
        "measure": measure,
        "answer": answer,
        **more,
    }


QUESTIONS = [
    question(
        "tea_share",
        "attribute",
        "share",
        {"bands": [30, 60], "text": "Share {band}.", "none": "No tea."},
        where="kind = 'tea'",
        days=30,
    ),
    question(
        "spent",
        "attribute",
        "sum",
        {"levels": 3, "text": "Spent {band}, {level}.", "none": "Nothing."},
        value="amount",
        days=60,
    ),
    question("mean", "attribute", "mean", {"bands": [10], "text": "Mean {band}."}, value="amount", days=60),
    question(
        "kinds",
        "attribute",
        "distinct",
        {"bands": [2, 3], "text": "Kinds {band}.", "none": "None."},
        value="kind",
        days=30,
    ),
    question(
        "last",
        "attribute",
        "recency",
        {"bands": [1, 7], "text": "Paid {days} ago.", "none": "Long ago."},
        days=30,
        instruction=["When?", "When last?"],
    ),
    question(
        "evening",
        "attribute",
        "count",
        {"yes_from": 2, "text": "Yes.", "none": "No."},
        where="daypart = 'evening'",
        days=30,
    ),
    question("age", "attribute", "value", {"bands": [30], "text": "Age {band}."}, source="tabular", value="age"),
    question("job", "attribute", "value", {"text": "Job {top}."}, source="tabular", value="job"),
    question("why", "diagnostic", "top", {"text": "Top {top}."}, value="merchant", top=2, days=60),
    question("kind_now", "attribute", "top", {"text": "Now {top}."}, value="merchant", days=30),
    question("kind_then", "attribute", "top", {"text": "Then {top}."}, value="Merchant", days=60),
    question("about", "attribute", "top", {"text": "About {top}."}, value="interest", top=2, days=60),
    question("unasked", "attribute", "top", {"text": "Gold {top}."}, value="merchant", days=60, where="kind = 'gold'"),
    question(
        "cheap",
        "attribute",
        "count",
        {"yes_from": 1, "text": "Yes.", "none": "No."},
        days=60,
        where="Interest = 'first letters' and amount < 1",
    ),
    question(
        "anything",
        "attribute",
        "share",
        {"bands": [30, 60], "text": "Share {band}.", "none": "Never."},
        source="any",
        where="daypart in ('evening', 'night')",
        days=60,
    ),
    question(
        "seen",
        "attribute",
        "recency",
        {"bands": [2], "text": "Seen {days} ago.", "none": "Long ago."},
        source=["search", "bill"],
        days=30,
    ),
    question("much", "attribute", "count", {"yes_share": 0.3, "text": "Yes.", "none": "No."}, days=60),
    question(
        "rare", "attribute", "count", {"yes_share": 0.9, "text": "Yes.", "none": "No."}, where="amount = 100", days=60
    ),
    question("hours", "attribute", "top", {"text": "At {top}."}, source="any", value="hour", top=3, days=60),
    question("next_count", "future", "count", {"bands": [2, 4], "text": "Paid {times}.", "none": "Not."}, days=30),
    question(
        "next_when",
        "future",
        "days_until",
        {"bands": [3, 10], "text": "In {days}.", "none": "Never."},
        source="search",
        where="Query like 't%'",
        days=30,
    ),  # SQL's names have no case
    question("next_top", "future", "top", {"text": "Then {top}."}, value="upper(QUERY)", source="search", days=10),
    question(
        "long", "future", "count", {"yes_from": 1, "text": "Yes.", "none": "No."}, days=60, last_as_of="2025-01-01"
    ),
    question(
        "far", "future", "count", {"levels": 2, "text": "{level}.", "none": "No."}, days=60, last_as_of="2025-01-01"
    ),
]
INTERESTS = {"first letters": "^[ab] ", "small": "UNDER 1$", "b again": "^b"}
GENERAL = [["job", "why"], ["last"]]
CHANGES = {
    "attributes": {"table": "attributes", "valid_from": "valid_from", "numbers": ["age"], "categories": ["job"]},
    "scenarios": [{"name": "food", "instruction": "Food?", "labels": "labels"}],
    "userqa": {"questions": "questions.yaml", "as_of": [str(day) for day in CUT_OFFS], "validation_share": 0.3},
}


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def make_lake():
    rng = random.Random(3)
    users = [f"u{number}" for number in range(12)]
    begin = datetime(2024, 11, 20, tzinfo=UTC)

    def time():
        return begin + timedelta(seconds=rng.randrange(104 * 86_400))

    bills = [
        {
            "bill_id": f"b{n}",
            "user_id": rng.choice(users),
            "paid_at": time(),
            "merchant": rng.choice("ABCD"),
            "kind": rng.choice(["tea", "film", "metro", None]),
            "amount": rng.choice([None, float("nan"), 0.1, 0.2, 5.0, 12.5, 100.0]),
        }
        for n in range(120)
    ]
    # On the edges of the windows, and a repeat across a cut-off: the first copy counts.
    bills += [
        {**bills[0], "bill_id": f"edge{n}", "user_id": "u1", "paid_at": at}
        for n, at in enumerate(
            [
                midnight(CUT_OFFS[0]),
                midnight(CUT_OFFS[0]) - timedelta(microseconds=1),
                midnight(CUT_OFFS[0]) - timedelta(days=30),
                midnight(CUT_OFFS[0]) + timedelta(days=30),
            ]
        )
    ]
    first = min(bills, key=lambda row: row["paid_at"])
    bills += [{**first, "paid_at": midnight(CUT_OFFS[0]) + timedelta(days=1)}, {**bills[3], "user_id": None}]
    searches = [
        {"user_id": rng.choice(users), "searched_at": time(), "query": rng.choice(["tea", "tv", "map", "t"])}
        for _ in range(90)
    ]
    attributes = [
        {"user_id": user, "valid_from": midnight(day), "age": age, "job": job}
        for user in users[:9]
        for day, age, job in ((date(2024, 12, 31), 20, "cook"), (date(2025, 1, 1), None, "nurse"))
    ]
    return {"bills": (BILLS, bills), "searches": (SEARCHES, searches), "attributes": (ATTRIBUTES, attributes)}


def write(d, lake):
    for name, (schema, rows) in lake.items():
        deltalake.write_deltalake(d.table(name), pa.Table.from_pylist(rows, schema=schema), mode="overwrite")


def write_labels(d):
    """Write one label, whose as_of no question may reach."""
    labels = pa.table({"user_id": ["u1"], "as_of": pa.array([LABELLED], TIME), "scenario": ["food"], "label": [1]})
    deltalake.write_deltalake(d.table("labels"), labels)


def write_questions(folder, questions=QUESTIONS, general=GENERAL):
    content = {"interests": INTERESTS, "questions": questions, "general": general}
    (folder / "questions.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def table(d, name):
    return deltalake.DeltaTable(d.table(name)).to_pyarrow_table().to_pylist()


FEW_QUESTIONS = [
    question(
        "pays", "attribute", "count", {"bands": [1, 3], "text": "Paid {times}.", "none": "Paid nothing."}, days=365
    ),
    question("pays_all", "attribute", "count", {"yes_from": 0, "text": "Yes.", "none": "No."}, days=30),
    question("gold", "attribute", "top", {"text": "{top}."}, value="merchant", where="merchant = 'gold'", days=30),
]


def with_questions(d, questions=FEW_QUESTIONS):
    """Write the deployment's file of questions."""
    d.path.with_name("questions.yaml").write_text(yaml.safe_dump({"questions": questions}))
    return d
