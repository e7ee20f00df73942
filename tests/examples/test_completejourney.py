"""The completejourney loader: every row arrives, labels are counted another way, a missing file is an error."""

from __future__ import annotations

from functools import partial

import pandas as pd
import pytest

from examples import completejourney
from examples.runner import CONF
from examples.tables import DataError
from jobs.config.deployment import Deployment
from jobs.userqa.questions import Questions


@pytest.fixture(scope="module")
def tables(loaded) -> dict[str, pd.DataFrame]:
    return loaded("completejourney", "completejourney", partial(completejourney.load, label="coupon"))


@pytest.fixture(scope="module")
def files(data) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(data("completejourney") / f"{name}.parquet") for name in completejourney.FILES}


def test_every_row_arrives(tables, files):
    assert len(tables["purchases"]) == len(files["transactions_sample"])
    assert len(tables["campaign_log"]) == len(files["campaigns"]) + len(files["coupon_redemptions"])
    assert len(tables["demographics"]) == len(files["demographics"])


def test_the_coupon_label_counted_household_by_household(tables, files):
    read = {name: frame.astype(str).to_dict("records") for name, frame in files.items() if name != "coupons"}
    start = {row["campaign_id"]: row["start_date"] for row in read["campaign_descriptions"]}
    targeted = {row["household_id"] for row in read["campaigns"] if start[row["campaign_id"]] >= "2017-07-01"}
    known = {row["household_id"] for row in read["transactions_sample"] if row["transaction_timestamp"] < "2017-07-01"}
    redeems = {row["household_id"] for row in read["coupon_redemptions"] if row["redemption_date"] >= "2017-07-01"}
    expected = {household: int(household in redeems) for household in targeted & known}
    assert len(expected) == 1389
    assert tables["labels"].set_index("user_id")["label"].to_dict() == expected


def test_income_and_age_are_labels_of_their_ranges(files):
    incomes = completejourney.LABELS["income"](files).set_index("user_id")["label"]
    ages = completejourney.LABELS["age"](files).set_index("user_id")["label"]
    for row in files["demographics"].astype(str).to_dict("records"):
        lowest_income = 0 if row["income"].startswith("Under") else int(row["income"].rstrip("K+").split("-")[0])
        assert incomes[row["household_id"]] == (lowest_income >= 75), row
        assert ages[row["household_id"]] == (int(row["age"][:2]) >= 55), row
    assert len(incomes) == len(ages) == 801


@pytest.mark.parametrize("probed", ["income", "age"])
def test_the_probed_column_is_neither_an_input_nor_a_question(probed):
    deployment = Deployment.read(CONF / f"completejourney_{probed}.yaml")
    assert probed not in deployment.categories
    questions = Questions.read(deployment.resolve(deployment.userqa.questions)).questions
    assert probed not in {question.value for question in questions}


def test_a_redemption_is_logged_on_its_day_with_its_shelf(tables):
    log = tables["campaign_log"]
    redeemed = log[log.redeemed == 1]
    assert (log.received + log.redeemed == 1).all()
    assert redeemed.action.str.startswith("redeemed a coupon for ").all()
    assert not log[log.redeemed == 0].action.str.contains("coupon").any()
    assert (redeemed.redeemed_on == redeemed.logged_at.dt.strftime("%Y-%m-%d")).all()
    assert redeemed.action.str.removeprefix("redeemed a coupon for ").eq(redeemed.redeemed_for).all()
    assert log.loc[log.redeemed == 0, ["redeemed_on", "redeemed_for"]].isna().all(axis=None)
    row = redeemed[(redeemed.household_id == "1029") & (redeemed.logged_at == pd.Timestamp("2017-01-01", tz="UTC"))]
    assert len(row) == 2


def test_goods_of_a_kind_are_marked(tables):
    bought = tables["purchases"]
    assert bought.loc[bought.category == "fluid milk products", "dairy"].eq(1).all()
    assert bought.loc[bought.category == "cat food", "pets"].eq(1).all()
    assert bought.loc[bought.category == "carpet care", "pets"].eq(0).all()
    assert bought.loc[bought.department == "produce", "produce"].eq(1).all()
    assert (bought[[*completejourney.CATEGORY_PATTERNS]].mean() < 0.35).all()


def test_a_missing_file_is_named(elsewhere, tmp_path):
    with pytest.raises(DataError, match=r"no transactions_sample\.parquet.*DATA="):
        completejourney.load(elsewhere("completejourney"), tmp_path, "coupon")
