"""The answers of the questions of `userqa_lake`, worked out row by row in Python."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from tests.support.userqa_lake import CUT_OFFS, midnight


def events(lived, name, user, first, last):
    """Return the valid, unrepeated rows of a user with first <= time < last, oldest first."""
    rows = lived.lake[name][1]
    time = "paid_at" if name == "bills" else "searched_at"
    rows_in_window, seen = [], set()
    for row in sorted((row for row in rows if row["user_id"]), key=lambda row: row[time]):
        if row.get("bill_id") is None or row["bill_id"] not in seen:
            seen.add(row.get("bill_id"))
            if row["user_id"] == user and first <= row[time] < last:
                rows_in_window.append({**row, "time": row[time]})
    return rows_in_window


def commonest(values, count):
    """Return the most frequent values with commas between; ties in the order of the alphabet."""
    ranked = sorted(Counter(v for v in values if v is not None).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(value for value, _ in ranked[:count])


def interest(row):
    """Return the interest that a bill matches, or None; its text is the merchant and a band of the amount."""
    if row["merchant"] in "AB":
        return "first letters"
    return "small" if row["amount"] in (0.1, 0.2) else None


def expected(lived, user, cut_off):
    """Return the answer of each question about a user; `spent` is left out, since the levels depend on all users."""
    t = midnight(cut_off)
    month = events(lived, "bills", user, t - timedelta(days=30), t)
    two_months = events(lived, "bills", user, t - timedelta(days=60), t)
    known = [row for row in lived.lake["attributes"][1] if row["user_id"] == user and row["valid_from"] < t]
    return (
        _month_answers(month, t)
        | _two_month_answers(two_months)
        | _any_answers(two_months + events(lived, "searches", user, t - timedelta(days=60), t), t)
        | _attribute_answers(known)
        | _future_answers(lived, user, cut_off)
    )


def require_true(lived, pairs):
    """Assert that the pairs of `userqa` hold the expected answers about each user, and return the users and days.

    Levels and descriptions are left out.
    """
    answers = {}
    for pair in pairs:
        if pair["question"] not in ("general", "spent", "far", "much", "rare"):
            answers.setdefault((pair["user_id"], pair["day"]), {})[pair["question"]] = pair["answer"]
    for user, cut_off in answers:
        assert answers[user, cut_off] == expected(lived, user, cut_off), (user, cut_off)
    return set(answers)


def _band(value, edges, texts):
    """Return the text of the band that a value falls into: one text more than edges."""
    return texts[sum(value >= edge for edge in edges)]


def _month_answers(month, t):
    kinds = len({row["kind"] for row in month} - {None})
    answers = {
        "kinds": ["None.", "Kinds 1.", "Kinds 2.", "Kinds 3 or more."][kinds],
        "evening": "Yes." if sum(row["time"].hour >= 18 for row in month) >= 2 else "No.",
        "last": "Long ago.",
    }
    if month:
        share = 100 * sum(row["kind"] == "tea" for row in month) / len(month)
        bands = ["Share under 30.", "Share 30 to 60.", "Share 60 or more."]
        answers["tea_share"] = _band(share, [30, 60], bands) if share else "No tea."
        bands = ["Paid less than a day ago.", "Paid 1 to 6 days ago.", "Paid 7 days or more ago."]
        answers["last"] = _band((t - month[-1]["time"]).days, [1, 7], bands)
        answers["kind_now"] = f"Now {commonest([row['merchant'] for row in month], 1)}."
    return answers


def _two_month_answers(rows):
    cheap = [row for row in rows if interest(row) == "first letters" and (row["amount"] or 1) < 1]
    answers = {"cheap": "Yes." if cheap else "No."}
    amounts = [row["amount"] for row in rows if row["amount"] is not None and row["amount"] == row["amount"]]
    if amounts:
        answers["mean"] = _band(sum(amounts) / len(amounts), [10], ["Mean under 10.", "Mean 10 or more."])
    if rows:
        merchants, interests = [row["merchant"] for row in rows], [interest(row) for row in rows]
        answers["kind_then"] = f"Then {commonest(merchants, 1)}."
        answers["why"] = f"Top {commonest(merchants, 2)}."
        if any(interests):
            answers["about"] = f"About {commonest(interests, 2)}."
    return answers


def _any_answers(rows, t):
    """Return the answers over the events of both sources in the last two months."""
    month = [row for row in rows if row["time"] >= t - timedelta(days=30)]
    answers = {"seen": "Long ago."}
    if month:
        days = (t - max(row["time"] for row in month)).days
        answers["seen"] = _band(days, [2], ["Seen 0 to 1 days ago.", "Seen 2 days or more ago."])
    if rows:
        share = 100 * sum(row["time"].hour >= 18 or row["time"].hour < 6 for row in rows) / len(rows)
        bands = ["Share under 30.", "Share 30 to 60.", "Share 60 or more."]
        answers["anything"] = _band(share, [30, 60], bands) if share else "Never."
        answers["hours"] = f"At {commonest([row['time'].strftime('%H:00') for row in rows], 3)}."
    return answers


def _attribute_answers(known):
    if not known:
        return {}
    row = max(known, key=lambda row: row["valid_from"])
    return {"job": f"Job {row['job']}."} | ({} if row["age"] is None else {"age": "Age under 30."})


def _future_answers(lived, user, cut_off):
    t = midnight(cut_off)
    payments = len(events(lived, "bills", user, t, t + timedelta(days=30)))
    bands = ["Not.", "Paid once.", "Paid 2 to 3 times.", "Paid 4 or more times."]
    answers = {"next_count": _band(payments, [1, 2, 4], bands), "next_when": "Never."}
    searches = events(lived, "searches", user, t, t + timedelta(days=30))
    days = [(row["time"] - t).days for row in searches if row["query"].startswith("t")]
    if days:
        bands = ["In 0 to 2 days.", "In 3 to 9 days.", "In 10 days or more."]
        answers["next_when"] = _band(days[0], [3, 10], bands)
    soon = events(lived, "searches", user, t, t + timedelta(days=10))
    if soon:
        answers["next_top"] = f"Then {commonest([row['query'].upper() for row in soon], 1)}."
    if cut_off == CUT_OFFS[0]:
        answers["long"] = "Yes." if events(lived, "bills", user, t, t + timedelta(days=60)) else "No."
    return answers
