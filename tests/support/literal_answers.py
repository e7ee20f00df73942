"""The answers of the questions of `userqa_lake`, worked out row by row in Python."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from tests.support.userqa_lake import CUT_OFFS, midnight


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
