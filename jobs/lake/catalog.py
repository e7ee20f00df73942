"""The tables of the lake, each defined once: its columns and keys, the job that makes it and the jobs that read it.

SQL names, maintenance, staleness, error messages, the removal of a user and docs/tables.md are derived from `TABLES`.
To add a table, add one entry here. `ANSWERS` describes the tables that a user names: `ask --all --table NAME`.
"""

from __future__ import annotations

from feature_repo.columns import scenario_columns
from jobs.config.deployment import Deployment
from jobs.lake.table import Column, Names, Retention, Table

USER = Column("user_id", "string", "The user.")
AS_OF = Column("as_of", "timestamp", "Midnight, UTC: the row is made of events before it.")
DAY = Column("day", "date", "The date of `as_of`; the table is partitioned by it.")
MODEL_VERSION = Column("model_version", "string", "Hash of everything in the release that affects a vector.")
PROFILE_HASH = Column("profile_hash", "string", "SHA-256 of the profile; null where the user is no longer eligible.")
EMBEDDING = Column(
    "embedding",
    "array<float>",
    "The vector, of length 1; null where it ended: the user is no longer eligible, or the scenario was removed.",
)


def _profile_columns(names: Names) -> tuple[Column, ...]:
    event = "array<struct<event_time: timestamp, text: string, gap: int>>"
    events = [
        Column(
            name, event, "The source's last events in time order; `gap` is floor(log2(1 + days)) since the one before."
        )
        for name in names.sources
    ]
    ages = ", ".join(f"{name}: int" for name in names.sources)
    values = ", ".join([f"{n}: double" for n in names.numbers] + [f"{c}: string" for c in names.categories])
    tabular = [Column("tabular", f"struct<{values}>", "Attributes and aggregates.")] if values else []
    return (
        USER,
        AS_OF,
        *events,
        Column("ages", f"struct<{ages}>", "By source, floor(log2(1 + days)) from the last event to `as_of`."),
        *tabular,
        PROFILE_HASH,
        DAY,
    )


def _vector_columns(names: Names) -> tuple[Column, ...]:
    cells = []
    for scenario in names.scenarios:
        vector, version, as_of = scenario_columns(scenario)
        cells += [
            Column(vector, "binary", "The scenario's latest vector, packed as little-endian float16; null: none."),
            Column(version, "string", "`model_version` of that vector."),
            Column(as_of, "timestamp", "`as_of` of that vector."),
        ]
    return (USER, *cells, AS_OF, DAY)


PROFILE_IDENTITY = ("user_id", "profile_hash")
TABLES = {
    table.name: table
    for table in (
        Table(
            name="user_profiles",
            description="A user whose profile changed on the day: the model's input. "
            "The profile as of a day is the user's latest row at or before it.",
            columns=_profile_columns,
            key=("user_id",),
            same_by=PROFILE_IDENTITY,
            made_by="assemble",
            feeds=("embed", "tune", "evaluate", "ask"),
            personal=True,
            retention=Retention.LATEST,
        ),
        Table(
            name="training_profiles",
            description="A user at a cut-off of `userqa.as_of`, changed or not.",
            columns=_profile_columns,
            key=("user_id",),
            same_by=PROFILE_IDENTITY,
            made_by="userqa",
            feeds=("train", "export"),
            personal=True,
            retention=Retention.REPLACED,
        ),
        Table(
            name="userqa",
            description="A training example: a question about a user at a cut-off, and its answer.",
            columns=(
                USER,
                AS_OF,
                Column("question", "string", "Name of the question in the questions file; `general`: a description."),
                Column("instruction", "string", "The question in words; null for a description."),
                Column("answer", "string", "The answer in words."),
                Column("is_none", "boolean", "Whether the answer is the question's `none`: no, or nothing."),
                Column("axis", "string", "`attribute`, `diagnostic` or `future`; null for a description."),
                Column("split", "string", "`train` or `validation`; all rows of a user are in one of them."),
                DAY,
            ),
            key=("user_id", "question", "answer"),
            same_by=("user_id", "question", "instruction", "answer", "is_none", "axis", "split"),
            made_by="userqa",
            feeds=("train",),
            personal=True,
            retention=Retention.REPLACED,
        ),
        Table(
            name="labels",
            description="A label of a user in a scenario. `scenarios.*.labels` may name another table.",
            columns=(
                USER,
                Column("as_of", "timestamp", "The label is about the time from here on."),
                Column("scenario", "string", "Name of the scenario."),
                Column("label", "int", "0 or 1; `tune` takes any whole number as a class."),
            ),
            key=("user_id", "scenario", "as_of"),
            partition=(),
            made_by="generate",
            feeds=("userqa", "tune", "evaluate"),
            personal=True,
            retention=Retention.COMPANY,
        ),
        Table(
            name="user_embeddings",
            description="A user's vector in a scenario that is new on the day. "
            "The vector as of a day is the latest row at or before it.",
            columns=(
                USER,
                Column("scenario", "string", "Name of the scenario; `universal`: without an instruction."),
                EMBEDDING,
                Column("instruction_hash", "string", "Hash of the scenario's instruction vectors."),
                Column("profile_hash", "string", "SHA-256 of the profile; null where the vector ended."),
                MODEL_VERSION,
                Column("created_at", "timestamp", "When the run that made it started."),
                AS_OF,
                DAY,
            ),
            key=("user_id", "scenario"),
            same_by=("user_id", "scenario", "profile_hash", "instruction_hash", "model_version"),
            made_by="embed",
            feeds=("publish",),
            personal=True,
            retention=Retention.LATEST,
        ),
        Table(
            name="user_vectors",
            description="A user with a new or ended vector on the day, and the latest vector of every scenario. "
            "`publish` brings the online store to the latest row of each user.",
            columns=_vector_columns,
            key=("user_id",),
            made_by="publish",
            feeds=("publish",),
            personal=True,
            retention=Retention.LATEST,
        ),
        Table(
            name="rejected_rows",
            description="An input row that `assemble` refused; at most 1,000 for a source, reason and day.",
            columns=(
                Column("source", "string", "Name of the source, or `attributes`."),
                Column("reason", "string", "Why it was refused."),
                Column("row", "string", "The row as JSON, under the source's own column names."),
                AS_OF,
                DAY,
            ),
            made_by="assemble",
            personal=True,
            retention=Retention.AGE,
        ),
        Table(
            name="job_runs",
            description="The last run of a job for a day.",
            columns=(
                Column("job", "string", "The command."),
                Column("as_of", "timestamp", "The midnight, UTC, that it ran for."),
                Column("status", "string", "`ok` or `failed`."),
                Column("started_at", "timestamp", "When it started."),
                Column("finished_at", "timestamp", "When it ended; null: it runs, or was killed while it wrote."),
                Column("replaced_at", "timestamp", "When rows of the day were last replaced; null: never."),
                Column("rows_in", "bigint", "Rows read."),
                Column("rows_out", "bigint", "Rows that the day has."),
                Column("left_out", "map<string,bigint>", "Rows left out, by reason."),
                Column("seconds", "double", "How long it ran."),
                Column("model_version", "string", "Of the release that it used or made."),
                Column("versions", "map<string,bigint>", "Delta version of each table that the rows were made of."),
                Column("details", "string", "JSON: `error`, `handoff` (read by later jobs) and notes for people."),
                DAY,
            ),
            key=("job",),
            partition=("day", "job"),
            made_by=None,
            personal=False,
            retention=Retention.ALL,
        ),
        Table(
            name="online_users",
            description="A user who may be in the online store.",
            columns=(Column("project", "string", "`store.project`; the table is partitioned by it."), USER),
            key=("project", "user_id"),
            partition=("project",),
            made_by="publish",
            feeds=("publish",),
            personal=True,
            retention=Retention.REPLACED,
        ),
    )
}
ANSWERS = Table(
    name="answers",
    description="A user's answer to an instruction, in the table that `ask --all --table NAME` names.",
    columns=(
        USER,
        AS_OF,
        Column("instruction", "string", "What was asked."),
        Column("answer", "string", "What the language model says."),
        Column("embedding", "array<float>", "The vector under the instruction, of length 1."),
        MODEL_VERSION,
        DAY,
    ),
    key=("user_id", "instruction"),
    made_by="ask",
    personal=True,
    retention=Retention.ALL,
)


def made_by(table: str) -> str | None:
    """Return the job that makes a table, None where the lake has no such table or every job writes it."""
    return TABLES[table].made_by if table in TABLES else None


def input_jobs(job: str) -> tuple[str, ...]:
    """Return the jobs that make what a job reads, directly or through other jobs; without those of the company."""
    jobs = [job]
    for reader in jobs:  # grows
        for table in TABLES.values():
            if reader in table.feeds and not table.company and table.made_by not in (None, *jobs):
                jobs.append(str(table.made_by))
    return tuple(jobs[1:])


def tables_kept_by(*retentions: Retention) -> tuple[Table, ...]:
    """Return the tables with one of these retentions."""
    return tuple(table for table in TABLES.values() if table.retention in retentions)


def reserved_paths(deployment: Deployment) -> set[str]:
    """Return the paths or URIs of the tables that no user may name as a target: the lake's and the company's."""
    company = [table.table for _, table in deployment.company_tables]
    return {deployment.table(name) for name in (*TABLES, *company)}
