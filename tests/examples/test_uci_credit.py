"""The uci_credit loader: statements and labels equal the publisher's wide table, client by client."""

from __future__ import annotations

import pandas as pd
import pytest

from examples import uci_credit
from examples.tables import DataError


@pytest.fixture(scope="module")
def wide(data) -> pd.DataFrame:
    frame = pd.read_parquet(data("uci_credit") / "uci_credit_card.parquet")
    return frame.set_index(frame.ID.astype(str))


@pytest.fixture(scope="module")
def tables(loaded) -> dict[str, pd.DataFrame]:
    return loaded("uci_credit", "uci_credit", uci_credit.load)


def test_six_statements_of_each_client(tables, wide):
    statements = tables["statements"]
    assert len(statements) == 6 * len(wide)
    for client in ("1", "2", "29999"):
        own = statements[statements.client_id == client].sort_values("closed_at")
        row = wide.loc[client]
        assert own.closed_at.dt.strftime("%m-%d").tolist() == ["04-20", "05-20", "06-20", "07-20", "08-20", "09-20"]
        assert own.bill.tolist() == [row[f"BILL_AMT{n}"] for n in (6, 5, 4, 3, 2, 1)]
        assert own.paid.tolist() == [row[f"PAY_AMT{n}"] for n in (6, 5, 4, 3, 2, 1)]
        assert own.status.tolist() == [row[f"PAY_{n}"] for n in (6, 5, 4, 3, 2, 0)]
        assert own.status_before.tolist()[1:] == own.status.tolist()[:-1]
        assert own.late.tolist() == [int(status >= 1) for status in own.status]
        assert own.arrears.tolist() == [int(status >= 2) for status in own.status]
        assert own.partly.tolist() == [int(status == 0) for status in own.status]
        assert own.unpaid.tolist() == [int(paid == 0) for paid in own.paid]


def test_a_statement_is_compared_with_the_one_before(tables):
    own = tables["statements"][lambda rows: rows.client_id == "3"].sort_values("closed_at")
    september, april = own.iloc[-1], own.iloc[0]
    # Client 3: a limit of 90,000, bills of 14,027 and then 29,239, of which 1,518 was paid.
    assert (september.use, september.share) == ("30 to 60", "10 to 50")
    assert september.used == pytest.approx(100 * 29239 / 90000)
    assert september.repaid == pytest.approx(100 * 1518 / 14027)
    assert september.growth == pytest.approx(100 * (29239 - 14027) / 90000)
    assert april.share == "no bill"
    assert april[["repaid", "growth"]].isna().all()


def test_every_statement_is_before_the_label(tables, wide):
    labels = tables["labels"].set_index("user_id")
    assert (tables["statements"].closed_at < labels.as_of.iloc[0]).all()
    assert labels.label.loc[wide.index].tolist() == wide.Default.tolist()


def test_a_missing_file_is_named(elsewhere, tmp_path):
    with pytest.raises(DataError, match=r"no uci_credit_card\.parquet.*DATA="):
        uci_credit.load(elsewhere("uci_credit"), tmp_path)
