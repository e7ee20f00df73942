"""UserQA against answers worked out row by row, and what it must never read."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import deltalake
import pyarrow as pa
import pytest
import yaml

from jobs.lake.delta import TableError
from jobs.userqa.questions import QuestionError
from jobs.userqa.userqa import userqa
from tests.support.deployment import deploy

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


def write_questions(folder, questions=QUESTIONS, general=GENERAL):
    content = {"interests": INTERESTS, "questions": questions, "general": general}
    (folder / "questions.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def table(d, name):
    return deltalake.DeltaTable(d.table(name)).to_pyarrow_table().to_pylist()


@pytest.fixture(scope="module")
def lived(spark, tmp_path_factory) -> SimpleNamespace:
    """One run; then another after rows at or after the labels' as_of came, and a cut-off was dropped."""
    folder = tmp_path_factory.mktemp("userqa")
    d = deploy(folder, **CHANGES)
    write_questions(folder)
    lake = make_lake()
    write(d, lake)
    labels = pa.table({"user_id": ["u1"], "as_of": pa.array([LABELLED], TIME), "scenario": ["food"], "label": [1]})
    deltalake.write_deltalake(d.table("labels"), labels)
    seen = SimpleNamespace(d=d, lake=deepcopy(lake), first=userqa(spark, d))
    seen.pairs, seen.profiles, seen.runs = (table(d, name) for name in ("userqa", "training_profiles", "job_runs"))
    for n in range(12):
        lake["bills"][1].append(
            {
                "bill_id": f"x{n}",
                "user_id": f"u{n}",
                "paid_at": LABELLED,
                "merchant": "Leak",
                "kind": "tea",
                "amount": 5.0,
            }
        )
        lake["searches"][1].append({"user_id": f"u{n}", "searched_at": LABELLED, "query": "t-leak"})
        lake["attributes"][1].append({"user_id": f"u{n}", "valid_from": LABELLED, "age": 99, "job": "Leak"})
    write(d, lake)
    seen.again = userqa(spark, d)
    seen.pairs_again, seen.profiles_again = table(d, "userqa"), table(d, "training_profiles")
    fewer = deploy(folder, **{**CHANGES, "userqa": {**CHANGES["userqa"], "as_of": ["2025-01-01"]}})
    userqa(spark, fewer)
    seen.days_left = {row["day"] for name in ("userqa", "training_profiles") for row in table(d, name)}
    return seen


def events(lived, name, user, first, last):
    """A user's good, unrepeated rows with first <= time < last, oldest first."""
    rows = lived.lake[name][1]
    time = "paid_at" if name == "bills" else "searched_at"
    found, seen = [], set()
    for row in sorted((row for row in rows if row["user_id"]), key=lambda row: row[time]):
        if row.get("bill_id") is None or row["bill_id"] not in seen:
            seen.add(row.get("bill_id"))
            if row["user_id"] == user and first <= row[time] < last:
                found.append({**row, "time": row[time]})
    return found


def commonest(values, count):
    ranked = sorted(Counter(v for v in values if v is not None).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(value for value, _ in ranked[:count])


def interest(row):
    """What the text of a bill is about: the template writes the merchant, then a band of the amount."""
    if row["merchant"] in "AB":
        return "first letters"
    return "small" if row["amount"] in (0.1, 0.2) else None


def expected(lived, user, cut_off):
    """Question -> answer, by hand; `spent` is told by its amount alone."""
    t = midnight(cut_off)
    month = events(lived, "bills", user, t - timedelta(days=30), t)
    two = events(lived, "bills", user, t - timedelta(days=60), t)
    amounts = [row["amount"] for row in two if row["amount"] is not None and row["amount"] == row["amount"]]
    ahead = events(lived, "bills", user, t, t + timedelta(days=30))
    found = {}
    if month:
        share = 100 * sum(row["kind"] == "tea" for row in month) / len(month)
        found["tea_share"] = (
            "No tea."
            if share == 0
            else "Share under 30."
            if share < 30
            else "Share 30 to 60."
            if share < 60
            else "Share 60 or more."
        )
    if amounts:
        mean = sum(amounts) / len(amounts)
        found["mean"] = "Mean under 10." if mean < 10 else "Mean 10 or more."
    kinds = len({row["kind"] for row in month} - {None})
    found["kinds"] = ["None.", "Kinds 1.", "Kinds 2.", "Kinds 3 or more."][kinds]
    days = (t - month[-1]["time"]).days if month else None
    found["last"] = (
        "Long ago."
        if days is None
        else "Paid less than a day ago."
        if days < 1
        else "Paid 1 to 6 days ago."
        if days < 7
        else "Paid 7 days or more ago."
    )
    if month:
        found["kind_now"] = f"Now {commonest([row['merchant'] for row in month], 1)}."
    found["evening"] = "Yes." if sum(row["time"].hour >= 18 for row in month) >= 2 else "No."
    known = [row for row in lived.lake["attributes"][1] if row["user_id"] == user and row["valid_from"] < t]
    if known:
        row = max(known, key=lambda row: row["valid_from"])
        found["job"] = f"Job {row['job']}."
        if row["age"] is not None:
            found["age"] = "Age under 30."
    if two:
        found["kind_then"] = f"Then {commonest([row['merchant'] for row in two], 1)}."
        about = [interest(row) for row in two]
        if any(about):
            found["about"] = f"About {commonest(about, 2)}."
        found["why"] = f"Top {commonest([row['merchant'] for row in two], 2)}."
    cheap = [row for row in two if interest(row) == "first letters" and (row["amount"] or 1) < 1]
    found["cheap"] = "Yes." if cheap else "No."
    found["next_count"] = (
        ("Not.", "Paid once.", "Paid 2 to 3 times.", "Paid 2 to 3 times.")[len(ahead)]
        if (len(ahead) < 4)
        else "Paid 4 or more times."
    )
    found["next_when"] = "Never."
    for row in events(lived, "searches", user, t, t + timedelta(days=30)):
        if row["query"].startswith("t"):
            days = (row["time"] - t).days
            found["next_when"] = (
                "In 0 to 2 days." if days < 3 else "In 3 to 9 days." if days < 10 else "In 10 days or more."
            )
            break
    soon = events(lived, "searches", user, t, t + timedelta(days=10))
    if soon:
        found["next_top"] = f"Then {commonest([row['query'].upper() for row in soon], 1)}."
    if cut_off == CUT_OFFS[0]:
        found["long"] = "Yes." if events(lived, "bills", user, t, t + timedelta(days=60)) else "No."
    return found


def test_answers_are_true_of_each_user_at_each_cut_off(lived):
    asked = {}
    for pair in lived.pairs:
        if pair["question"] not in ("general", "spent", "far"):
            asked.setdefault((pair["user_id"], pair["day"]), {})[pair["question"]] = pair["answer"]
    people = {(row["user_id"], row["day"]) for row in lived.profiles}
    assert len(people) > 15
    assert set(asked) == people
    for user, cut_off in people:
        assert asked[user, cut_off] == expected(lived, user, cut_off), (user, cut_off)


def test_levels_part_the_training_users_evenly_and_hold_the_value(lived):
    spent = [pair for pair in lived.pairs if pair["question"] == "spent"]
    counts = Counter(pair["answer"].split(", ")[-1] for pair in spent if pair["split"] == "train")
    assert set(counts) - {"Nothing."} == {"low.", "middle.", "high."}
    assert max(counts[level] for level in ("low.", "middle.", "high.")) <= 3 * min(
        counts[level] for level in ("low.", "middle.", "high.")
    )
    for pair in spent:
        since = midnight(pair["day"]) - timedelta(days=60)
        amounts = [row["amount"] for row in events(lived, "bills", pair["user_id"], since, midnight(pair["day"]))]
        total = sum(amount for amount in amounts if amount is not None and amount == amount)
        words = pair["answer"].removeprefix("Spent ").split(",")[0].split()
        low, high = {"under": (0, words[-1]), "Nothing.": (0, 1e-9)}.get(words[0], (words[0], words[-1]))
        assert float(low) - 1e-9 <= total < (float("inf") if high == "more" else float(high)), pair


def test_levels_are_those_of_the_cut_offs_at_which_it_is_asked(lived):
    """At the later cut-off most of the 60 days are not read, and the counts there too low."""
    pairs = {pair["user_id"]: pair for pair in lived.pairs if pair["question"] == "far"}
    first, last = midnight(CUT_OFFS[0]), midnight(CUT_OFFS[0]) + timedelta(days=60)
    count = {user: len(events(lived, "bills", user, first, last)) for user in pairs}
    trained = sorted(count[user] for user, pair in pairs.items() if pair["split"] == "train" and count[user])
    half = trained[(len(trained) + 1) // 2 - 1]
    assert {user: pair["answer"] for user, pair in pairs.items()} == {
        user: "No." if not n else "low." if n < half else "high." for user, n in count.items()
    }


def test_every_row_is_accounted_for_at_each_cut_off(lived):
    [run] = [row for row in lived.runs if row["job"] == "userqa"]
    accounts = json.loads(run["details"])["accounts"]
    assert set(accounts) == {str(day) for day in CUT_OFFS}
    used = sum(account["used"] for at in accounts.values() for account in at.values())
    # Each cut-off reads every row of every source again.
    assert run["rows_in"] == len(CUT_OFFS) * sum(len(rows) for _, rows in lived.lake.values())
    assert run["rows_in"] == used + sum(dict(run["left_out"]).values())


def test_descriptions_have_no_question(lived):
    found = Counter()
    for pair in lived.pairs:
        if pair["question"] == "general":
            assert (pair["instruction"], pair["axis"]) == (None, None)
            found[pair["user_id"], pair["day"]] += 1
    assert set(found.values()) == {2}
    u1 = [
        p["answer"]
        for p in lived.pairs
        if p["question"] == "general" and p["user_id"] == "u1" and p["day"] == CUT_OFFS[1]
    ]
    truth = expected(lived, "u1", CUT_OFFS[1])
    assert sorted(u1) == sorted([f"{truth['job']} {truth['why']}", truth["last"]])


def test_a_user_is_on_one_side_of_the_split_and_gets_one_phrasing(lived):
    for pair in lived.pairs:
        draw = int(hashlib.sha256(f"userqa|{pair['user_id']}".encode()).hexdigest()[:8], 16) / 2**32
        assert pair["split"] == ("validation" if draw < 0.3 else "train")
    assert {pair["split"] for pair in lived.pairs} == {"train", "validation"}
    phrased = {}
    for pair in lived.pairs:
        if pair["question"] == "last":
            phrased.setdefault(pair["user_id"], set()).add(pair["instruction"])
    assert {len(texts) for texts in phrased.values()} == {1}
    assert set.union(*phrased.values()) == {"When?", "When last?"}


def test_nothing_at_or_after_the_labels_as_of_is_read(lived):
    def key(row):
        return str(sorted((k, str(v)) for k, v in row.items()))

    assert sorted(map(key, lived.pairs_again)) == sorted(map(key, lived.pairs))
    assert sorted(map(key, lived.profiles_again)) == sorted(map(key, lived.profiles))
    assert (lived.first.replaced, lived.again.replaced) == (4, 0)


def test_the_summary_counts_answers(lived):
    evening = [pair["answer"] for pair in lived.pairs if pair["question"] == "evening"]
    spread = lived.first.questions["evening"]
    assert (spread.rows, spread.answers) == (len(evening), 2)
    assert spread.commonest == pytest.approx(Counter(evening).most_common(1)[0][1] / len(evening))
    unasked = lived.first.questions["unasked"]
    assert (unasked.rows, unasked.answers, unasked.commonest) == (0, 0, 0)
    assert lived.first.pairs == len(lived.pairs)
    assert lived.first.profiles == len(lived.profiles)


def test_a_dropped_cut_off_leaves_the_tables(lived):
    assert lived.days_left == {CUT_OFFS[0]}


def test_questions_that_do_not_fit_are_refused_all_at_once(spark, lived):
    folder = lived.d.path.parent
    write_questions(
        folder,
        [
            question("a", "future", "count", {"bands": [1], "text": "x"}, days=31),
            question("b", "attribute", "count", {"bands": [1], "text": "x"}, days=9, where="colour = 'red'"),
            question("c", "attribute", "count", {"bands": [1], "text": "x"}, days=9, where="amount + 1"),
            question("d", "attribute", "sum", {"bands": [1], "text": "x"}, days=9, value="merchant"),
            question("e", "attribute", "count", {"bands": [1], "text": "x"}, days=9, source="shop"),
            question("f", "attribute", "value", {"bands": [1], "text": "x"}, source="tabular", value="income"),
        ],
        [],
    )
    with pytest.raises(QuestionError) as refused:
        userqa(spark, deploy(folder, **CHANGES))
    message = str(refused.value)
    for words in (
        "6 errors",
        "a.days = 31: asked as of 2025-02-01, its window ends on 2025-03-04, after the "
        "earliest label's as_of 2025-03-03",
        "b.where = colour = 'red'",
        "c.where = amount + 1: is double",
        "d.value = merchant: is string",
        "e.source = shop: no source",
        "f.value = income: no tabular",
    ):
        assert words in message, words


def test_a_cut_off_after_the_labels_is_one_mistake(spark, lived):
    """The windows of its future questions end after the labels too."""
    folder = lived.d.path.parent
    write_questions(folder)
    late = {**CHANGES["userqa"], "as_of": ["2025-01-01", "2025-04-01"]}
    with pytest.raises(QuestionError) as refused:
        userqa(spark, deploy(folder, **CHANGES | {"userqa": late}))
    [_, *lines] = str(refused.value).splitlines()
    assert lines == ["  userqa.as_of = 2025-04-01: after the earliest label's as_of 2025-03-03; name earlier cut-offs"]


def test_a_pattern_that_cannot_be_searched_for_is_refused(spark, tmp_path):
    d = deploy(tmp_path, **CHANGES)
    lake = make_lake()
    write(d, lake)
    deltalake.write_deltalake(d.table("labels"), pa.table({"as_of": pa.array([LABELLED], TIME)}))
    content = {"interests": {"tea": "hot (tea", "han": r"\p{IsHan}"}, "questions": QUESTIONS[:1]}
    (tmp_path / "questions.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(QuestionError, match=r"interests.tea = hot \(tea: no regular expression \(Unclosed") as refused:
        userqa(spark, d)
    assert "1 error" in str(refused.value)


def test_labels_that_are_not_there_are_refused(spark, lived):
    """Without their as_of, training could see what it is judged on."""
    folder = lived.d.path.parent
    write_questions(folder)
    scenarios = [*CHANGES["scenarios"], {"name": "film", "instruction": "Film?", "labels": "film_labels"}]
    with pytest.raises(TableError, match=r"scenarios\.film\.labels = film_labels: there is no Delta table at .*remove"):
        userqa(spark, deploy(folder, **CHANGES | {"scenarios": scenarios}))
