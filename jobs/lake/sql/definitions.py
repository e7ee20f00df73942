"""The views and functions of SQL: what each reads, takes and returns.

`<file>.sql` has the statement of a definition; `instruction_functions` has the functions in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.lake.catalog import TABLES
from jobs.lake.table import Column, Names

NO_NAMES = Names(sources=(), numbers=(), categories=(), scenarios=())


@dataclass(frozen=True, kw_only=True)
class SqlDefinition:
    """A view, or a function where it takes parameters."""

    file: str
    """Name of the file without `.sql`; of a function in Python its name."""
    reads: str
    """The table or view that it needs; `releases`: the current release."""
    description: str
    columns: tuple[Column, ...]
    """Columns of a view or of a table function's rows; one column without a name: a function that returns a value."""
    parameters: tuple[Column, ...] | None = None
    """None: a view."""
    per_scenario: bool = False
    """One view for each scenario."""

    @property
    def name(self) -> str:
        """The name in SQL, with `<scenario>` where each scenario has its own."""
        return self.file.replace("scenario", "<scenario>") if self.per_scenario else self.file


def _embedding_columns(*names: str) -> tuple[Column, ...]:
    columns = {column.name: column for column in TABLES["user_embeddings"].columns_with(NO_NAMES)}
    columns["embedding"] = replace(columns["embedding"], description="The vector, of length 1.")
    return tuple(columns[name] for name in names)


SCENARIO = Column("scenario", "string", "Name of the scenario.")
DEFINITIONS = (
    SqlDefinition(
        file="latest_embeddings",
        reads="user_embeddings",
        description="The latest vector of each user in each scenario, without those that ended.",
        columns=_embedding_columns(
            "user_id",
            "scenario",
            "as_of",
            "embedding",
            "model_version",
            "instruction_hash",
            "profile_hash",
            "created_at",
        ),
    ),
    SqlDefinition(
        file="embeddings_scenario",
        reads="latest_embeddings",
        description="The latest vector of each user in one scenario: `embeddings_food`, `embeddings_universal`, ...",
        columns=_embedding_columns("user_id", "as_of", "embedding", "model_version"),
        per_scenario=True,
    ),
    SqlDefinition(
        file="embeddings_at",
        reads="user_embeddings",
        description="The latest vector of each user in each scenario as of a day: "
        "`SELECT * FROM embeddings_at(DATE'2026-01-31')`.",
        parameters=(Column("at", "date", "The day: the vectors are made of events before it, UTC."),),
        columns=_embedding_columns("user_id", "scenario", "as_of", "embedding", "model_version"),
    ),
    SqlDefinition(
        file="similarity",
        reads="latest_embeddings",
        description="The cosine of the latest vectors of two users; null where one of them has none: "
        "`SELECT similarity('u000001', 'u000002', 'food')`.",
        parameters=(Column("one", "string", "A user."), Column("other", "string", "Another user."), SCENARIO),
        columns=(Column("", "double", "The cosine, from -1 to 1."),),
    ),
    SqlDefinition(
        file="most_similar",
        reads="latest_embeddings",
        description="The k other users with the highest cosine to a user, the highest first: "
        "`SELECT * FROM most_similar('u000001', 'food', 10)`.",
        parameters=(Column("user", "string", "The user."), SCENARIO, Column("k", "int", "How many.")),
        columns=(
            Column("user_id", "string", "Another user."),
            Column("similarity", "double", "The cosine, from -1 to 1."),
            Column("place", "int", "1 for the highest."),
        ),
    ),
    SqlDefinition(
        file="left_out",
        reads="job_runs",
        description="How many rows each run left out, one reason a row.",
        columns=(
            Column("job", "string", "The command."),
            Column("as_of", "timestamp", "The midnight, UTC, that it ran for."),
            Column("reason", "string", "Why; for `assemble` with the source before it."),
            Column("rows_left_out", "bigint", "How many rows."),
        ),
    ),
)
"""In the order in which they are created: a view before what reads it."""
EMBEDDING = Column("embedding", "array<float>", "A universal vector of the current release.")
INSTRUCTION = Column("instruction", "string", "What to ask of a user.")
INSTRUCTION_FUNCTIONS = (
    SqlDefinition(
        file="focus",
        reads="releases",
        description="A stored universal vector under an instruction, without reading the profile again; null for a "
        "null. It equals the vector of a scenario with this instruction where `model.network.focus` is `universal`: "
        "`SELECT user_id, focus(embedding, 'Will this user travel?') FROM embeddings_universal`.",
        parameters=(EMBEDDING, INSTRUCTION),
        columns=(Column("", "array<float>", "The vector, of length 1."),),
    ),
    SqlDefinition(
        file="score",
        reads="releases",
        description="The cosine of a stored universal vector and an instruction, by which `instructue rank` ranks; "
        "null for a null: `SELECT user_id, score(embedding, 'Will this user travel?') FROM embeddings_universal`.",
        parameters=(EMBEDDING, INSTRUCTION),
        columns=(Column("", "double", "The cosine, from -1 to 1."),),
    ),
)
"""Functions in Python, for the session alone, also where a metastore keeps the others. The current release needs a
focus."""
