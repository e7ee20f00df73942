"""The completejourney loader: rows kept, labels counted another way, a missing file named."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
import yaml
from deltalake import DeltaTable

from examples.completejourney import DataError, load
from jobs.deployment import Deployment

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("DATA") or ROOT.parent / "shared/data/completejourney")
AS_OF = pd.Timestamp("2017-07-01", tz="UTC")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory) -> Deployment:
    folder = tmp_path_factory.mktemp("completejourney")
    content = yaml.safe_load((ROOT / "conf/completejourney.yaml").read_text())
    content["lake"] = "lake"
    (folder / "deployment.yaml").write_text(yaml.safe_dump(content))
    return Deployment.read(folder / "deployment.yaml")


@pytest.fixture(scope="module")
def tables(deployment) -> dict[str, pd.DataFrame]:
    if not DATA.is_dir():
        pytest.skip(f"no completejourney data in {DATA}: name its folder with DATA=")
    load(deployment, DATA, AS_OF)
    return {name: DeltaTable(deployment.table(name)).to_pandas()
            for name in ("purchases", "campaign_log", "demographics", "labels")}


def test_every_row_arrives(tables):
    files = {name: len(pd.read_parquet(DATA / f"{name}.parquet"))
             for name in ("transactions_sample", "campaigns", "coupon_redemptions", "demographics")}
    assert len(tables["purchases"]) == files["transactions_sample"]
    assert len(tables["campaign_log"]) == files["campaigns"] + files["coupon_redemptions"]
    assert len(tables["demographics"]) == files["demographics"]


def test_the_label_counted_household_by_household(tables):
    read = {name: pd.read_parquet(DATA / f"{name}.parquet").astype(str).to_dict("records")
            for name in ("transactions_sample", "campaigns", "campaign_descriptions", "coupon_redemptions")}
    start = {row["campaign_id"]: row["start_date"] for row in read["campaign_descriptions"]}
    targeted = {row["household_id"] for row in read["campaigns"] if start[row["campaign_id"]] >= "2017-07-01"}
    known = {row["household_id"] for row in read["transactions_sample"]
             if row["transaction_timestamp"] < "2017-07-01"}
    redeems = {row["household_id"] for row in read["coupon_redemptions"] if row["redemption_date"] >= "2017-07-01"}
    expected = {household: int(household in redeems) for household in targeted & known}
    assert len(expected) == 1389
    assert tables["labels"].set_index("user_id")["label"].to_dict() == expected


def test_a_redemption_is_logged_on_its_day_with_its_shelf(tables):
    log = tables["campaign_log"]
    redeemed = log[log.redeemed == 1]
    assert redeemed.action.str.startswith("redeemed a coupon for ").all()
    assert not log[log.redeemed == 0].action.str.contains("coupon").any()
    row = redeemed[(redeemed.household_id == "1029") & (redeemed.logged_at == pd.Timestamp("2017-01-01", tz="UTC"))]
    assert len(row) == 2


def test_a_missing_file_is_named(deployment, tmp_path):
    with pytest.raises(DataError, match=r"no transactions_sample\.parquet.*DATA="):
        load(deployment, tmp_path, AS_OF)
