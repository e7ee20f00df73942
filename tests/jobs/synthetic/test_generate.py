"""The made-up company: what the tables hold, what breaks, what a second day adds, and what can be known."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from sklearn.metrics import roc_auc_score

from jobs.config.deployment import Deployment
from jobs.synthetic.broken_rows import BROKEN
from jobs.synthetic.company import DAY, FUTURE_LABELS, LABELS, Company
from jobs.synthetic.event_texts import GROUPS, SOURCES, THEMES, TRAITS, texts
from jobs.synthetic.generate import GenerateError, GenerateResult, generate
from jobs.synthetic.label_ceiling import measure
from jobs.synthetic.tables import IDS, SCHEMAS, TIMES

FIRST, SECOND = date(2026, 1, 1), date(2026, 1, 2)
MIDNIGHT = pd.Timestamp("2026-01-01", tz="UTC")
DEMO = Path(__file__).parents[3] / "conf" / "demo.yaml"
Lake = tuple[Deployment, GenerateResult, dict[str, pd.DataFrame]]


def demo(folder: Path) -> Deployment:
    return Deployment.read(DEMO).model_copy(update={"lake": str(folder)})


def read(deployment: Deployment) -> dict[str, pd.DataFrame]:
    return {name: DeltaTable(deployment.table(name)).to_pandas() for name in SCHEMAS}


def event_times(rows: pd.DataFrame, source: str) -> pd.Series:
    """Event times as UTC timestamps; NaT where missing or unreadable."""
    return pd.to_datetime(rows[TIMES[source]], utc=True, errors="coerce", format="ISO8601")


def sorted_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(list(rows.columns), ignore_index=True)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    deployment = demo(tmp_path_factory.mktemp("first"))
    report = generate(deployment, FIRST, users=600, seed=3)
    return deployment, report, read(deployment)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    deployment = demo(tmp_path_factory.mktemp("second"))
    generate(deployment, FIRST, users=100, seed=5)  # another company, of which nothing may stay
    report = generate(deployment, SECOND, users=600, seed=3)
    return deployment, report, read(deployment)


def test_same_seed_same_rows(first: Lake, tmp_path: Path) -> None:
    again, other = demo(tmp_path / "again"), demo(tmp_path / "other")
    generate(again, FIRST, users=600, seed=3)
    generate(other, FIRST, users=600, seed=4)
    for name, rows in read(again).items():
        pd.testing.assert_frame_equal(sorted_rows(rows), sorted_rows(first[2][name]))
    assert not sorted_rows(read(other)["bills"]).equals(sorted_rows(first[2]["bills"]))


def test_a_hundred_users_and_no_fewer(tmp_path: Path) -> None:
    deployment = demo(tmp_path)
    report = generate(deployment, FIRST, users=100)
    tables = read(deployment)
    assert {name: len(rows) for name, rows in tables.items()} == report.rows
    assert tables["labels"].groupby("scenario")["user_id"].nunique().to_dict() == dict.fromkeys(LABELS, 100)
    with pytest.raises(GenerateError, match="99"):
        generate(deployment, FIRST, users=99)


def test_a_companys_own_table_is_never_overwritten(tmp_path: Path) -> None:
    deployment = demo(tmp_path)
    own = pa.table({"user_id": ["ours"]})
    write_deltalake(deployment.table("bills"), own)
    with pytest.raises(GenerateError, match=r"bills at .* was not made by `generate`"):
        generate(deployment, FIRST, users=100)
    assert DeltaTable(deployment.table("bills")).to_pyarrow_table() == own
    assert not DeltaTable.is_deltatable(deployment.table("labels"))


def test_tables_hold_what_had_arrived(first: Lake) -> None:
    for name, rows in first[2].items():
        assert list(rows.columns) == SCHEMAS[name].names
        if "arrived_at" in rows:
            assert rows["arrived_at"].max() < MIDNIGHT
    assert first[2]["attributes"]["valid_from"].max() < MIDNIGHT
    assert set(first[2]["labels"]["as_of"]) == {MIDNIGHT}


def test_another_day_adds_arrivals_and_changes_nothing_else(first: Lake, second: Lake) -> None:
    for source in SOURCES:
        rows = second[2][source]
        old = rows[rows["arrived_at"] < MIDNIGHT]
        pd.testing.assert_frame_equal(sorted_rows(old), sorted_rows(first[2][source]))
        new = rows[rows["arrived_at"] >= MIDNIGHT]
        assert new["arrived_at"].max() < MIDNIGHT + timedelta(days=1)
    assert len(second[2]["bills"]) > len(first[2]["bills"])
    pd.testing.assert_frame_equal(sorted_rows(second[2]["labels"]), sorted_rows(first[2]["labels"]))


def band(days: pd.Series) -> pd.Series:
    return np.floor(np.log2(1 + days)).astype(int)


def profiles(lake: Lake, as_of: pd.Timestamp) -> pd.Series:
    """What a profile is made of, per user, as one string: computed plainly, as the assembler may not."""
    deployment, _, tables = lake
    parts = []
    for source in deployment.sources:
        rows = tables[source.table].assign(time=event_times(tables[source.table], source.table))
        rows = rows[rows["user_id"].fillna("").str.strip() != ""]
        if source.id:
            rows = rows.sort_values("arrived_at").drop_duplicates(source.id)
        aggregates = [a.window_days for a in deployment.aggregates if a.source == source.name]
        for days in {source.window_days, *aggregates}:
            inside = rows[(rows["time"] < as_of) & (rows["time"] >= as_of - timedelta(days=days))]
            inside = inside.sort_values(["user_id", "time"]).drop(columns="arrived_at")
            parts.append(inside.astype(str).agg("|".join, axis=1).groupby(inside["user_id"]).agg("\n".join))
            age = band((as_of - inside.groupby("user_id")["time"].max()).dt.days)
            parts.append(age.astype(str))
    attributes = tables["attributes"].dropna(subset=["user_id", "valid_from"])
    attributes = attributes[attributes["valid_from"] < as_of].sort_values("valid_from").groupby("user_id").tail(1)
    parts.append(attributes.astype(str).agg("|".join, axis=1).set_axis(attributes["user_id"]))
    return pd.concat(parts, axis=1).fillna("").agg("#".join, axis=1)


def active_users(tables: dict[str, pd.DataFrame], day: pd.Timestamp) -> float:
    """The share of the 600 users who have an event on a day."""
    users: set[str] = set()
    for source in SOURCES:
        time = event_times(tables[source], source)
        users |= {*tables[source].loc[(time >= day) & (time < day + timedelta(days=1)), "user_id"].dropna()}
    return len(users) / 600


def test_the_first_day_is_a_day_as_any_other_and_changes_most_profiles(second: Lake) -> None:
    first, *earlier = [active_users(second[2], MIDNIGHT - timedelta(days=age)) for age in range(8)]
    assert min(earlier) - 0.03 < first < max(earlier) + 0.03
    before, after = profiles(second, MIDNIGHT), profiles(second, MIDNIGHT + timedelta(days=1))
    users = before.index.union(after.index)
    changed = (before.reindex(users, fill_value="") != after.reindex(users, fill_value="")).mean()
    # Beside the users with an event: bands of time step, and events leave their windows.
    assert changed > first + 0.1


def test_broken_rows_are_there_as_reported(first: Lake) -> None:
    _, report, tables = first
    broken = {}
    for source in SOURCES:
        rows = tables[source]
        user, written = rows["user_id"], rows[TIMES[source]]
        time = event_times(rows, source)
        broken[f"{source}: no user"] = user.isna().sum()
        broken[f"{source}: empty user"] = (user.fillna("u").str.strip() == "").sum()
        broken[f"{source}: no time"] = written.isna().sum()
        broken[f"{source}: far future"] = (time > pd.Timestamp("2090-01-01", tz="UTC")).sum()
        if source in IDS:
            broken[f"{source}: repeated"] = rows[IDS[source]].duplicated().sum()
    searches = tables["searches"]
    broken["searches: unreadable time"] = (
        searches["searched_at"].notna() & event_times(searches, "searches").isna()
    ).sum()
    amount = tables["bills"]["amount"]
    broken["bills: amount not a number"] = amount.isna().sum()
    broken["bills: amount negative"] = (amount < 0).sum()
    broken["bills: amount huge"] = (amount > 1e9).sum()
    assert broken == report.broken
    assert all(n > 0 for n in broken.values())
    rows = sum(report.rows[source] for source in SOURCES)
    assert sum(broken.values()) / rows == pytest.approx(0.005, abs=0.002)
    assert len({kind for name in broken for kind in [name.split(": ")[1]]}) == len(BROKEN)


def test_late_rows_are_there_as_reported(first: Lake) -> None:
    for source in SOURCES:
        rows = first[2][source]
        if source in IDS:
            rows = rows.drop_duplicates(IDS[source])
        whole = rows[rows["user_id"].fillna("").str.strip() != ""]
        if source == "bills":
            whole = whole[whole["amount"].between(0, 1e9)]
        delay = whole["arrived_at"] - event_times(whole, source)
        late = delay[delay >= timedelta(days=1)]
        assert len(late) == pytest.approx(first[1].late[source], abs=2)
        assert late.max() < timedelta(days=3)
        assert first[1].late[source] / len(rows) == pytest.approx(0.01, abs=0.004)


def test_searches_are_written_in_more_than_one_offset(first: Lake) -> None:
    written = first[2]["searches"]["searched_at"].dropna()
    china = written.str.endswith("+08:00")
    assert 0.05 < china.mean() < 0.15
    assert written.str.endswith("Z").mean() > 0.8
    assert first[2]["searches"]["query"].str.contains("[\u4e00-\u9fff]").any()


def test_attributes_are_missing_and_superseded(first: Lake) -> None:
    rows = first[2]["attributes"]
    per_user = rows.dropna(subset=["valid_from"]).groupby("user_id").size()
    assert 0.08 < (per_user > 1).mean() < 0.25
    for name in ("age", "gender", "city_tier", "phone_brand", "membership_days", "occupation"):
        assert 0 < rows[name].isna().mean() < 0.3
    assert rows["user_id"].isna().any()
    assert rows["valid_from"].isna().any()


def test_people_repeat_themselves_and_shops_are_few_and_large(first: Lake) -> None:
    bills = first[2]["bills"]
    popularity = bills["merchant"].value_counts().to_numpy()
    rank = np.arange(1, len(popularity) + 1)
    slope = np.polyfit(np.log(rank[:200]), np.log(popularity[:200]), 1)[0]
    assert -1.3 < slope < -0.4
    per_user = bills.groupby(["user_id", "merchant"]).size().sort_values(ascending=False)
    top = per_user.groupby("user_id").head(5).groupby("user_id").sum() / bills.groupby("user_id").size()
    random = bills["merchant"].sample(frac=1, random_state=0).to_numpy()
    shuffled = bills.assign(merchant=random).groupby(["user_id", "merchant"]).size().sort_values(ascending=False)
    chance = shuffled.groupby("user_id").head(5).groupby("user_id").sum() / bills.groupby("user_id").size()
    assert top.mean() > 1.3 * chance.mean()
    pages = first[2]["page_paths"]
    assert pages["user_id"].nunique() < 0.97 * 600


def company(users: int = 600, seed: int = 3) -> Company:
    return Company(users=users, seed=seed, first_day=FIRST)


def test_most_events_say_nothing_and_profiles_have_a_typical_size() -> None:
    chunk, deployment = next(company().chunks()), Deployment.read(DEMO)
    everyday = kept = total = 0.0
    for source in deployment.sources:
        events = chunk.events(source.table)
        everyday += (texts(source.table).group_T[events.text_E] >= len(THEMES)).sum()
        total += len(events)
        age = (chunk.company.midnight - events.time_E) / DAY
        inside = (age > 0) & (age <= source.window_days)
        kept += np.minimum(np.bincount(events.user_E[inside], minlength=600), source.max_events).mean()
    assert everyday / total >= 0.6
    assert 70 <= kept <= 100


def test_future_labels_are_what_the_tables_later_show(first: Lake, tmp_path: Path) -> None:
    """A month on, the rows themselves tell who did it: by time and by the theme's own texts."""
    deployment = demo(tmp_path)
    generate(deployment, date(2026, 2, 5), users=600, seed=3)
    tables, labels = read(deployment), first[2]["labels"]
    for name, (source, theme, least) in FUTURE_LABELS.items():
        catalogue = texts(source)
        number = [group.name for group in GROUPS].index(theme)
        own = {
            tuple(row)
            for row, group in zip(zip(*catalogue.columns.values(), strict=True), catalogue.group_T, strict=True)
            if group == number
        }
        rows = tables[source]
        if source in IDS:
            rows = rows.drop_duplicates(IDS[source])
        if source == "bills":
            rows = rows[rows["amount"].between(0, 1e9)]
        time = event_times(rows, source)
        month = rows[(time >= MIDNIGHT) & (time < MIDNIGHT + timedelta(days=30))]
        mine = month[[tuple(row) in own for row in month[list(catalogue.columns)].to_numpy()]]
        did = mine.groupby("user_id").size()
        label = labels[labels["scenario"] == name].set_index("user_id")["label"]
        future = (did.reindex(label.index, fill_value=0) >= least).astype(int)
        # A broken copy of a row with its user and time whole may count once too often.
        assert (future == label).mean() > 0.99
        assert 0.1 < label.mean() < 0.5


def test_chunks_make_the_same_users_one_source_at_a_time() -> None:
    parts = list(replace(company(), chunk=250).chunks())
    assert [(part.start, part.users) for part in parts] == [(0, 250), (250, 250), (500, 100)]
    again = parts[1].events("searches")
    parts[1].events("bills")
    events = parts[1].events("searches")
    np.testing.assert_array_equal(events.time_E, again.time_E)
    assert events.user_E.min() >= 250
    assert events.user_E.max() < 500


def test_no_single_hint_gives_a_label_away_but_the_traits_do() -> None:
    chunk = next(company(users=4000, seed=0).chunks())
    signal = measure(chunk)
    for name in LABELS:
        assert 0.15 <= signal.share[name] <= 0.5
        assert signal.text[name][1] <= 0.65, signal.text[name]
        assert signal.column[name][1] <= 0.65, signal.column[name]
        assert 0.8 < signal.ceiling[name] < 0.97


def test_two_traits_together_make_the_campaign_label() -> None:
    """Thrift decides for families and play for the others, so neither trait has one effect on all users."""
    chunk = next(company(users=4000, seed=0).chunks())
    trait = dict(zip(TRAITS, chunk.traits_on_first_day().T, strict=True))
    label, family = chunk.labels()["campaign"], trait["family"] > 0

    def auc(name: str, users: np.ndarray) -> float:
        return float(roc_auc_score(label[users], trait[name][users]))

    everyone = np.ones(len(family), dtype=bool)
    assert min(auc("thrift", family), auc("play", ~family)) > 0.88
    assert max(abs(auc(name, side) - 0.5) for name, side in (("play", family), ("thrift", ~family))) < 0.05
    assert max(auc(name, everyone) for name in TRAITS) < 0.75
    assert label[family].mean() == pytest.approx(label[~family].mean(), abs=0.05)


def test_the_pet_label_follows_the_traits_of_the_theme_pets() -> None:
    chunk = next(company(users=4000, seed=0).chunks())
    [theme] = [group for group in THEMES if group.name == "pets"]
    score = chunk.traits_on_first_day() @ [theme.loadings.get(trait, 0.0) for trait in TRAITS]
    assert roc_auc_score(chunk.labels()["pet_owner"], score) > 0.9


def test_hints_are_measured_right() -> None:
    """The reported AUC of a text, computed again from the events with scikit-learn."""
    chunk = next(company().chunks())
    signal, label = measure(chunk), chunk.labels()
    rendered = {text: (source, i) for source in SOURCES for i, text in enumerate(texts(source).render())}
    for name, (hint, auc) in signal.text.items():
        kind, text = hint.split(" ", 1)
        source, row = rendered[text]
        events = chunk.events(source)
        first_midnight = int(datetime(2026, 1, 1).timestamp() // 86_400) * DAY
        mine = (events.text_E == row) & (events.time_E < first_midnight) & (events.time_E >= first_midnight - 365 * DAY)
        count = np.bincount(events.user_E[mine], minlength=600)
        plain = roc_auc_score(label[name], count if kind == "count" else count > 0)
        assert max(plain, 1 - plain) == pytest.approx(auc)
