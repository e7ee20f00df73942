"""Check against a plain recount in Python, on a messy lake; and that it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.cli import main
from jobs.cli.pages.check import check_page
from jobs.config.deployment import Deployment
from jobs.console import output, terminal
from jobs.lake import run_log
from jobs.lake.handoff import EmbedHandoff
from jobs.lake.run_log import RunRecord
from jobs.lake.spark_tables import SourceError
from jobs.operations.check import CheckResult, check
from jobs.operations.cost_estimate import Distribution, tokenizers_folder
from jobs.training import registry
from jobs.training.training_inputs import network_config
from model.data.text import Tokenizers, train_event_tokenizer, train_language_tokenizer
from tests.support import literal
from tests.support.deployment import DEPLOYMENT, deploy
from tests.support.messy import CHANGES, DAY1, DAY2, make_lake, write
from tests.support.userqa_lake import with_questions

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
FOOD = "Predict whether this user will order food."
SCENARIOS = [{"name": "food", "instruction": FOOD}]
LIMITED = [{**source, "max_tokens": most} for source, most in zip(CHANGES["sources"], (6, 4), strict=True)]
COUNTS = ("rows_in", "used", "after", "outside", "over", "repeated", "superseded", "rejected")


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with when it was written and how large it is."""
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def tokenizers(folder: Path, texts: list[str], vocabulary: int) -> Tokenizers:
    tokenizers = Tokenizers(
        event=train_event_tokenizer(texts, vocabulary), language=train_language_tokenizer([FOOD], vocabulary)
    )
    folder.mkdir(parents=True)
    tokenizers.save(folder)
    return tokenizers


@pytest.fixture(scope="module")
def lived(spark, tmp_path_factory) -> SimpleNamespace:
    """Checked with source tables alone, then with a checkpoint, a release and runs of embed, for the next day."""
    # An aggregate of each kind is assemble's to test, and takes Spark a second to plan.
    changes = {
        "sources": LIMITED,
        "scenarios": SCENARIOS,
        "model": {"network": {"head": 96}},
        "aggregates": CHANGES["aggregates"][-1:],
    }
    d = with_questions(deploy(tmp_path_factory.mktemp("check"), **CHANGES | changes))
    lake = make_lake()
    lake["bills"].append({**lake["bills"][0], "bill_id": "long", "user_id": None, "merchant": "x" * 1200})
    write(d, lake)
    seen = SimpleNamespace(d=d, lake=lake, before=listing(d.path.parent), first=check(spark, d, now=NOON))
    seen.after = listing(d.path.parent)
    tokenizers(registry.checkpoints_folder(d) / "c1", ["tea"], 260)
    registry.set_current_checkpoint(d, registry.checkpoints_folder(d) / "c1")
    seen.tokenizers = tokenizers(registry.releases_folder(d) / "r1", [*texts(d, lake, DAY1)["bill"]], 400)
    registry.set_current_release(d, registry.releases_folder(d) / "r1")
    for day, embedded in ((date(2025, 2, 1), 1000), (date(2025, 2, 2), 4)):
        with RunRecord.kept(d, "embed", day) as run:
            run.handoff = EmbedHandoff(instructions={}, embedded=embedded)
    failed = RunRecord(deployment=d, job="embed", as_of=DAY1, handoff=EmbedHandoff(instructions={}, embedded=14))
    failed.write("failed", finished_at=datetime.now(UTC))
    seen.second = check(spark, d.model_copy(update={"max_reject_share": 0.05}), DAY2, NOON)
    return seen


def texts(d: Deployment, lake: dict, day: date) -> dict[str, Counter]:
    """Return the number of occurrences of each text in the profiles of a day, by source."""
    profiles, _ = literal.profiles(d, lake, day)
    return {
        source.name: Counter(text for profile in profiles.values() for _, text, _ in profile[source.name])
        for source in d.sources
    }


def each(lived: SimpleNamespace) -> list[tuple[CheckResult, date]]:
    return [(lived.first, DAY1), (lived.second, DAY2)]


def test_it_changes_nothing(lived):
    assert lived.before == lived.after
    assert not run_log.read_runs(lived.d, "check")


def test_without_a_day_it_takes_the_one_after_the_newest_event_before_today(lived):
    # There are bills of today and of 2090 and 2095: neither belongs to a day that is over.
    assert max(literal.when(row["paid_at"]) for row in lived.lake["bills"] if row["paid_at"]).year > 2089
    assert (lived.first.as_of, lived.second.as_of) == (DAY1, DAY2)


def test_each_source_is_told_with_its_users_and_times(lived):
    for source in lived.d.sources:
        good = [row for row in lived.lake[source.table] if literal.judge(source, row) is None]
        times = [literal.when(row[source.time]) for row in good]
        source_result = lived.first.sources[source.name]
        assert (source_result.table, source_result.version, source_result.users) == (
            source.table,
            0,
            len({row["user_id"] for row in good}),
        )
        assert (source_result.first, source_result.last) == (min(times), max(times))
    good = [row for row in lived.lake["attributes"] if row["user_id"] and row["valid_from"]]
    source_result, times = lived.first.sources["attributes"], [row["valid_from"] for row in good]
    assert (source_result.users, source_result.first, source_result.last) == (
        len({row["user_id"] for row in good}),
        min(times),
        max(times),
    )


def test_every_row_is_accounted_for_as_assemble_would(lived):
    for result, day in each(lived):
        _, went = literal.profiles(lived.d, lived.lake, day)
        for name, source in result.sources.items():
            assert {key: getattr(source.account, key) for key in COUNTS} == {key: went[name][key] for key in COUNTS}, (
                day,
                name,
            )


def test_rejected_rows_are_told_by_reason_with_a_few_of_them(lived):
    _, went = literal.profiles(lived.d, lived.lake, DAY1)
    for source in lived.d.sources:
        reasons = lived.first.sources[source.name].rejected
        broken = {
            reason: [row for row in lived.lake[source.table] if literal.judge(source, row) == reason]
            for reason in reasons
        }
        assert (
            {reason: rejected.rows for reason, rejected in reasons.items()}
            == {reason: len(rows) for reason, rows in broken.items()}
            == {reason: n for reason, n in went[source.name].items() if reason not in COUNTS}
        )
        assert all(len(rejected.samples) == min(3, rejected.rows) for rejected in reasons.values())
    unreadable = lived.first.sources["search"].rejected["time does not parse"]
    assert [json.loads(sample)["searched_at"] for sample in unreadable.samples] == ["", "12:30", "2025-13-40"]
    cut = lived.first.sources["bill"].rejected["no user id"].samples[-1]
    assert cut.startswith('{"bill_id":"long"')
    assert (len(cut), cut[-5:]) == (204, "x ...")


def test_texts_are_counted_in_words_and_then_in_tokens(lived):
    def words(text: str) -> int:
        return len(text.split(" "))

    def tokens(text: str) -> int:
        return 1 + len(lived.tokenizers.event.encode(text, add_special_tokens=False).ids)

    for (result, day), length, rest in zip(each(lived), (words, tokens), (1, 0), strict=True):
        for name, counted in texts(lived.d, lived.lake, day).items():
            most = lived.d.source(name).max_tokens
            read = {text: min(length(text), most) if length is tokens else length(text) for text in counted}
            counts = result.costs.texts[name]
            assert (counts.used, counts.distinct) == (counted.total(), len(counted))
            assert counts.read == sum(n * read[text] for text, n in counted.items())
            assert counts.encoded == sum(read.values())
            assert counts.saved == pytest.approx(1 - counts.encoded / counts.read)
            assert counts.longest == max(map(length, counted))
            assert counts.cut == sum(length(text) + rest > most for text in counted)
    assert min(texts.cut for texts in (lived.first.costs.texts["bill"], lived.second.costs.texts["bill"])) > 0


def test_a_day_costs_the_users_whom_it_changes(lived):
    for result, day in each(lived):
        now, _ = literal.profiles(lived.d, lived.lake, day)
        then, _ = literal.profiles(lived.d, lived.lake, day - timedelta(days=1))
        changed = {
            user for user, profile in now.items() if then.get(user, {}).get("profile_hash") != profile["profile_hash"]
        }
        costs = result.costs
        assert (costs.users, costs.changed, costs.new, costs.deactivated) == (
            len(now),
            len(changed),
            len(now.keys() - then.keys()),
            len(then.keys() - now.keys()),
        )
        changed_texts = {
            (source.name, text)
            for user in changed
            for source in lived.d.sources
            for _, text, _ in now[user][source.name]
        }
        before = {
            (source.name, text)
            for profile in then.values()
            for source in lived.d.sources
            for _, text, _ in profile[source.name]
        }
        assert (costs.day.texts, costs.new_texts) == (len(changed_texts), len(changed_texts - before))
        for side, users in ((costs.everyone, now.keys()), (costs.day, changed)):
            vectors = 2 * len(users)
            assert (side.users, side.vectors) == (len(users), vectors)
            assert side.user_embeddings_bytes == vectors * 96 * 4
            assert side.user_vectors_bytes == side.online_bytes == vectors * 96 * 2
            events = sum(len(now[user][source.name]) for user in users for source in lived.d.sources)
            fixed = network_config(lived.d).fixed_tokens + sum(costs.tokens.instructions.values())
            assert side.language_model == len(users) * fixed + events
    assert 0 < lived.first.costs.changed < lived.first.costs.users
    assert lived.second.costs.deactivated > 0
    limit = {source.name: source.max_tokens for source in lived.d.sources}
    assert lived.second.costs.day.encoder == sum(
        len(lived.tokenizers.event_ids([text], limit[name])[0]) for name, text in changed_texts
    )


def test_the_tokens_of_a_user_are_spread_as_the_events_are(lived):
    # How long a sequence of so many events is, tests/model/test_network.py asks the network itself.
    for (result, day), instructions in zip(
        each(lived),
        ({"universal": 1, "food": 8}, {"universal": 1, "food": len(lived.tokenizers.instruction_ids([FOOD])[0])}),
        strict=True,
    ):
        now, _ = literal.profiles(lived.d, lived.lake, day)
        events = [sum(len(profile[source.name]) for source in lived.d.sources) for profile in now.values()]
        assert result.costs.tokens.instructions == instructions
        for spread, more in ((result.costs.tokens.profile, 0), (result.costs.tokens.whole, sum(instructions.values()))):
            fixed = network_config(lived.d).fixed_tokens + more
            assert [spread.mean, spread.median, spread.high, spread.most] == pytest.approx(
                [fixed + np.mean(events), *(fixed + np.percentile(events, [50, 95])), fixed + max(events)]
            )
            assert spread.possible == fixed + 3 + 4


def test_lengths_are_those_of_the_release_or_else_of_the_checkpoint(lived, deployment):
    assert (lived.first.costs.tokens.unit, lived.first.costs.tokens.tokenizer) == ("words", None)
    assert (lived.second.costs.tokens.unit, lived.second.costs.tokens.tokenizer) == ("tokens", "r1")
    d = deployment()
    assert tokenizers_folder(d) is None
    (registry.checkpoints_folder(d) / "c1").mkdir(parents=True)
    registry.set_current_checkpoint(d, registry.checkpoints_folder(d) / "c1")
    assert tokenizers_folder(d) == registry.checkpoints_folder(d) / "c1"
    registry.set_current_release(d, registry.releases_folder(d) / "r1")
    assert tokenizers_folder(d) == registry.releases_folder(d) / "r1"


def test_seconds_come_from_the_ok_run_of_embed_whose_users_are_nearest(lived):
    assert (lived.first.costs.day.seconds, lived.first.costs.everyone.measured) == (None, None)
    many, few, failed = run_log.read_runs(lived.d, "embed")
    assert (many.handoff(EmbedHandoff).embedded, few.handoff(EmbedHandoff).embedded, failed.status) == (
        1000,
        4,
        "failed",
    )
    # Of 1,000 and 4 users, 4 are the nearer to 15; the failed run, of 14, tells nothing.
    took = (few.finished_at - few.started_at).total_seconds()
    for side in (lived.second.costs.everyone, lived.second.costs.day):
        assert side.seconds == pytest.approx(side.users * took / 4)
        assert side.measured.startswith("embed for 2025-02-02: 4 users in ")


def test_the_sample_is_the_median_by_events(lived):
    for result, day in each(lived):
        now, _ = literal.profiles(lived.d, lived.lake, day)
        ranked = sorted(
            (sum(len(profile[source.name]) for source in lived.d.sources), user) for user, profile in now.items()
        )
        middle = ranked[(len(ranked) - 1) // 2][0]
        user = next(user for events, user in ranked if events == middle)
        profile, sample = now[user], result.profile
        assert sample.user_id == user
        assert {
            name: [(event.event_time, event.text, event.gap) for event in events]
            for name, events in sample.events.items()
        } == {s.name: profile[s.name] for s in lived.d.sources}
        assert (sample.ages, sample.tabular, sample.banded) == (profile["ages"], profile["tabular"], ["since_search"])


def test_a_person_reads_tables_and_a_program_one_object(lived, capsys):
    terminal.out.print(check_page(lived.second))
    page = " ".join(capsys.readouterr().out.split())
    profile = lived.second.profile
    shown = [event.text for events in profile.events.values() for event in events if len(event.text) < 40]
    costs = lived.second.costs
    for words in (
        "Tables, checked as of 2025-03-02 in",
        f"bill bills 0 {len(lived.lake['bills'])}",
        *shown,
        "time does not parse 4",
        f"{costs.texts['bill'].saved:.1%}",
        f"user {profile.user_id}, the median with",
        f"users embedded {costs.users} {costs.changed}",
        "Tokens are those of the tokenizers in r1",
        "Seconds are as in embed for 2025-02-02: 4 users in",
    ):
        assert words in page, words
    written = json.loads(output.to_json_line(lived.second))
    assert written["sources"]["bill"]["account"]["rows_in"] == len(lived.lake["bills"])
    assert written["costs"]["tokens"]["whole"]["possible"] == costs.tokens.whole.possible
    assert written["profile"]["user_id"] == profile.user_id


def test_empty_tables_are_told_as_such(spark, deployment, capsys):
    d = with_questions(deployment(sources=DEPLOYMENT["sources"][:1]))
    write(d, {"bills": []})
    result = check(spark, d, now=NOON)
    assert (result.as_of, result.costs.users, result.profile) == (DAY1, 0, None)
    assert result.costs.tokens.whole == Distribution(mean=None, median=None, high=None, most=None, possible=8)
    assert (result.sources["bill"].first, result.costs.texts["bill"].saved, result.costs.day.seconds) == (
        None,
        0.0,
        None,
    )
    terminal.out.print(check_page(result))
    assert "bill: no row is used as of 2025-03-01" in capsys.readouterr().out


def test_missing_tables_are_told_all_at_once(spark, deployment):
    with pytest.raises(SourceError) as refused:
        check(spark, with_questions(deployment()))
    assert "2 errors" in str(refused.value)
    assert "sources.search.table = searches: there is no Delta table at" in str(refused.value)


def test_too_many_rejected_rows_are_foretold(lived, capsys):
    assert not any(source.refused for source in lived.first.sources.values())
    assert (
        {name: source.refused for name, source in lived.second.sources.items()}
        == {
            name: source.account.rejected > 0.05 * source.account.rows_in
            for name, source in lived.second.sources.items()
        }
        == {"bill": False, "search": True, "attributes": False}
    )
    terminal.out.print(check_page(lived.second))
    assert "search: 6 of 104 rows are rejected, more than max_reject_share" in capsys.readouterr().out


def test_the_command_leaves_the_metastore_alone(lived, deployment, monkeypatch):
    started: list[Deployment] = []

    @contextmanager
    def session(d: Deployment) -> Any:
        started.append(d)
        yield SimpleNamespace(
            sparkContext=SimpleNamespace(statusTracker=lambda: SimpleNamespace(getJobIdsForGroup=lambda: ()))
        )

    days: list[date | None] = []
    monkeypatch.setattr("jobs.cli.commands.data.spark_session", session)
    monkeypatch.setattr("jobs.operations.check.check", lambda spark, d, as_of: days.append(as_of) or lived.first)
    path = with_questions(deployment(spark={**DEPLOYMENT["spark"], "metastore": "metastore"})).path
    finished = CliRunner().invoke(main.app, ["check", "-c", str(path), "--as-of", "2025-03-02", "--json"])
    assert json.loads(finished.stdout) == json.loads(output.to_json_line(lived.first))
    assert (days, started[0].spark.metastore) == ([DAY2], None)


def test_an_unsafe_lake_is_refused_before_spark_starts(deployment: Callable[..., Deployment], tmp_path: Path):
    path = deployment(lake="s3a://bucket/lake").path
    env = {**os.environ, "PATH": str(tmp_path), "JAVA_HOME": str(tmp_path), "PYTHONPATH": os.getcwd()}
    finished = subprocess.run(
        [sys.executable, "-m", "jobs", "check", "-c", str(path)],
        env=env,
        text=True,
        capture_output=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert "spark.delta.logStore.s3a.impl: io.delta.storage.S3DynamoDBLogStore" in finished.stderr
    assert "Java" not in finished.stderr
