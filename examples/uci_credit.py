"""Credit card clients: UCI's default of credit card clients as Delta tables, for conf/uci_credit.yaml.

The data (UCI machine learning repository, CC BY 4.0) has 30,000 clients of a bank in Taiwan: five attributes, and the
bill, the payment and the status of each month from April to September 2005. Each month is a statement. The data has no
days, so a statement is dated on the 20th. The label is "defaults next month", as of 2005-10-01.

    python -m examples.uci_credit [folder of the data]
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from examples import runner, tables
from jobs.cli import exit_codes
from jobs.config.deployment import Deployment

AS_OF = date(2005, 10, 1)
FILE = "uci_credit_card"
COLUMN_SUFFIX = {4: "6", 5: "5", 6: "4", 7: "3", 8: "2", 9: "1"}
"""The suffix of each month's columns; the status of September has the suffix 0."""
USE_BANDS = {
    -np.inf: "in credit",
    0: "nothing",
    1: "under 10",
    10: "10 to 30",
    30: "30 to 60",
    60: "60 to 90",
    90: "90 to 100",
    100: "over 100",
}
"""The lower bound of each band, in percent of the credit limit."""
SHARE_BANDS = {-np.inf: "nothing", 0.01: "under 5", 5: "5 to 10", 10: "10 to 50", 50: "50 to 99", 99: "all"}
"""The lower bound of each band, in percent of the previous bill."""
SEX = {1: "man", 2: "woman"}
EDUCATION = {1: "graduate school", 2: "university", 3: "high school"}
MARRIAGE = {1: "married", 2: "single"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def uci_credit(
    data: Annotated[Path, typer.Argument(help="The folder of uci_credit_card.parquet.")] = runner.DATA / "uci_credit",
    steps: runner.TrainSteps = None,
    seeds: runner.SeedCount = 1,
) -> None:
    """Run all jobs on the credit card clients of a bank, as of 2005-10-01."""
    part = runner.Part(config=runner.CONF / "uci_credit.yaml", as_of=AS_OF, load=load)
    runner.run("uci_credit", [part], data, steps=steps, seeds=seeds)


def load(deployment: Deployment, data: Path) -> dict[str, int]:
    """Write the tables that the deployment file names and return the number of rows of each.

    Raises
    ------
    DataError
        The file is missing from the folder.
    """
    clients = tables.read_tables(data, [FILE])[FILE]
    clients.insert(0, "client_id", clients.ID.astype(str))
    return tables.write_tables(
        deployment,
        {
            "statements": statements(clients),
            "clients": attributes(clients),
            "labels": tables.label_rows("default", dict(zip(clients.client_id, clients.Default, strict=True)), AS_OF),
        },
    )


def statements(clients: pd.DataFrame) -> pd.DataFrame:
    """Return a row per client and month, with columns that compare it with the statement before."""
    rows = []
    before: pd.DataFrame | None = None
    for month, suffix in COLUMN_SUFFIX.items():
        status = clients[f"PAY_{'0' if suffix == '1' else suffix}"]
        bill, paid = clients[f"BILL_AMT{suffix}"], clients[f"PAY_AMT{suffix}"]
        used = 100 * bill / clients.LIMIT_BAL
        missing = pd.Series(np.nan, clients.index)
        owed = missing if before is None else before.bill.where(before.bill > 0)
        repaid = (100 * paid / owed).clip(upper=200)
        before = pd.DataFrame(
            {
                "client_id": clients.client_id,
                "closed_at": pd.Timestamp(2005, month, 20, tz="UTC"),
                "standing": status.map(_standing),
                "status": status,
                "status_before": missing if before is None else before.status.astype(float),
                "late": (status > 0).astype("int64"),
                "arrears": (status > 1).astype("int64"),
                "unpaid": (paid <= 0).astype("int64"),
                "partly": (status == 0).astype("int64"),
                "duly": (status == -1).astype("int64"),
                "idle": (status == -2).astype("int64"),
                "bill": bill,
                "paid": paid,
                "used": used,
                "use": _band(used, USE_BANDS),
                "repaid": repaid,
                "share": _band(repaid, SHARE_BANDS).fillna("no bill"),
                "growth": missing if before is None else used - before.used,
            }
        )
        rows.append(before)
    table = pd.concat(rows, ignore_index=True)
    return table.astype({"closed_at": "datetime64[us, UTC]"})


def attributes(clients: pd.DataFrame) -> pd.DataFrame:
    """Return the five attributes; rare and undocumented codes are `other`."""
    return pd.DataFrame(
        {
            "client_id": clients.client_id,
            "credit_limit": clients.LIMIT_BAL,
            "age": clients.AGE,
            "sex": clients.SEX.map(SEX),
            "education": clients.EDUCATION.map(EDUCATION).fillna("other"),
            "marriage": clients.MARRIAGE.map(MARRIAGE).fillna("other"),
        }
    )


def _standing(status: int) -> str:
    """Return the publisher's code of a payment status in words."""
    if status <= 0:
        return {-2: "not used", -1: "paid in full", 0: "paid in part"}[status]
    return f"{status} month{'s' if status > 1 else ''} late"


def _band(values: pd.Series, names: dict[float, str]) -> pd.Series:
    """Return the name of the band that each value is in; missing for a missing value."""
    return pd.cut(values, [*names, np.inf], right=False, labels=list(names.values())).astype("string")


if __name__ == "__main__":
    exit_codes.run(app)
