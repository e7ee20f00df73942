"""A real retailer: the completejourney households as Delta tables, for conf/completejourney.yaml.

The data (84.51°, CC0, the R package completejourney) is one year, 2017, of grocery purchases, campaigns
and coupons. Purchases are the bills; campaigns received and coupons redeemed are the mini-program log;
demographics are the attributes. There are no page paths and no searches, and none are made up.

    python -m examples.completejourney [folder of the data]

The label is "redeems a coupon in the second half-year", over the households that a campaign reaches then
and that bought something before: households never targeted almost never redeem, so a label over all of
them would flatter every model.
"""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import typer
from deltalake import write_deltalake

from jobs import line, report
from jobs.deployment import Deployment
from jobs.exits import run
from jobs.line import Steps
from model.errors import InstructUEError

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "conf" / "completejourney.yaml"
DATA = ROOT.parent / "shared" / "data" / "completejourney"
LOG = ROOT / "logs" / "completejourney.log"
AS_OF = date(2017, 7, 1)

FILES = ("transactions_sample", "products", "campaigns", "campaign_descriptions", "coupons",
         "coupon_redemptions", "demographics")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class DataError(InstructUEError):
    """The data set's folder is not what its publisher ships."""


@app.command()
def completejourney(
    data: Annotated[Path, typer.Argument(help="Folder of the publisher's tables, as Parquet files.")] = DATA,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; by default the deployment file's.")] = None,
) -> None:
    """Run a real retailer's households through the whole line as of 2017-07-01."""
    if data == DATA and not data.is_dir():
        report.out.print(f"skipped: no completejourney data in {data}; name its folder with DATA=", style="yellow")
        return
    deployment = Deployment.read(CONFIG)
    data = data.resolve()
    os.chdir(ROOT)
    shutil.rmtree(deployment.resolve(deployment.lake), ignore_errors=True)
    shutil.rmtree(deployment.resolve(deployment.store.folder), ignore_errors=True)
    with line.chatter_to(LOG):
        step = Steps()
        with step("load the publisher's tables"):
            load(deployment, data, pd.Timestamp(AS_OF, tz="UTC"))
        evaluated = line.first_day(deployment, AS_OF, step, train_steps=steps)
        answers = line.ask(deployment, "coupon", step)
        report.out.print()
        for part in (line.accounts(deployment), step.table(), *answers, report.probe(evaluated)):
            report.out.print(part)


def load(deployment: Deployment, data: Path, as_of: pd.Timestamp) -> dict[str, int]:
    """Write the data set into the lake as the tables that the deployment file names.

    Parameters
    ----------
    data
        Folder with the publisher's tables as Parquet files (`FILES`).
    as_of
        Midnight UTC; the label asks what happens on or after it.

    Returns
    -------
    dict
        Rows per table written.

    Raises
    ------
    DataError
        A file is missing from the folder.
    """
    missing = [name for name in FILES if not (data / f"{name}.parquet").is_file()]
    if missing:
        raise DataError(f"{data}: no {', '.join(f'{name}.parquet' for name in missing)}; name the folder with DATA=")
    frames = {name: pd.read_parquet(data / f"{name}.parquet") for name in FILES}
    tables = {
        "purchases": purchases(frames["transactions_sample"], frames["products"]),
        "campaign_log": campaign_log(frames),
        "demographics": frames["demographics"].astype("string"),
        "labels": labels(frames, as_of),
    }
    for name, frame in tables.items():
        write_deltalake(deployment.table(name), pa.Table.from_pandas(frame, preserve_index=False),
                        mode="overwrite", schema_mode="overwrite")
    return {name: len(frame) for name, frame in tables.items()}


def purchases(transactions: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """One row per line of a receipt, with the product's names; lines of one receipt stay distinct bills."""
    lines = transactions.merge(products, on="product_id", how="left")
    coupon = (lines.coupon_disc > 0) | (lines.coupon_match_disc > 0)
    discount = lines.retail_disc > 0
    return pd.DataFrame({
        "household_id": lines.household_id,
        "bought_at": utc(lines.transaction_timestamp),
        "department": words(lines.department),
        "category": words(lines.product_category),
        "product": words(lines.product_type),
        "brand": lines.brand.astype("string").str.lower(),
        "amount": lines.sales_value,
        "price": pd.Series("at full price", lines.index).mask(discount, "on offer").mask(coupon, "with a coupon"),
        "discount": lines.retail_disc,
        "with_coupon": coupon.astype("int64"),
        "on_offer": discount.astype("int64"),
        "private_brand": (lines.brand == "Private").astype("int64"),
        "basket_id": lines.basket_id,
    })


def campaign_log(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per campaign received (at its start) and per coupon redeemed (on its day)."""
    descriptions = frames["campaign_descriptions"]
    received = frames["campaigns"].merge(descriptions, on="campaign_id")
    redeemed = frames["coupon_redemptions"].merge(descriptions, on="campaign_id")
    redeemed = redeemed.merge(shelves(frames["coupons"], frames["products"]), on="coupon_upc", how="left")
    rows = [
        pd.DataFrame({
            "household_id": received.household_id,
            "logged_at": utc(received.start_date),
            "program": "campaign " + received.campaign_type.astype("string").str.lower(),
            "action": "received",
            "redeemed": 0,
        }),
        pd.DataFrame({
            "household_id": redeemed.household_id,
            "logged_at": utc(redeemed.redemption_date),
            "program": "campaign " + redeemed.campaign_type.astype("string").str.lower(),
            "action": "redeemed a coupon for " + words(redeemed.shelf),
            "redeemed": 1,
        }),
    ]
    return pd.concat(rows, ignore_index=True)


def shelves(coupons: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """The department that most of a coupon's products stand in, as `shelf` per `coupon_upc`."""
    counts = coupons.merge(products, on="product_id").groupby(["coupon_upc", "department"]).size().reset_index(name="n")
    counts = counts.sort_values(["coupon_upc", "n", "department"], ascending=[True, False, True])
    return counts.drop_duplicates("coupon_upc").rename(columns={"department": "shelf"})[["coupon_upc", "shelf"]]


def labels(frames: dict[str, pd.DataFrame], as_of: pd.Timestamp) -> pd.DataFrame:
    """The label `coupon`: a redemption on or after `as_of`, of the households targeted then and known before."""
    starts = frames["campaigns"].merge(frames["campaign_descriptions"], on="campaign_id")
    targeted = set(starts[utc(starts.start_date) >= as_of].household_id)
    transactions = frames["transactions_sample"]
    known = set(transactions[utc(transactions.transaction_timestamp) < as_of].household_id)
    redemptions = frames["coupon_redemptions"]
    redeems = set(redemptions[utc(redemptions.redemption_date) >= as_of].household_id)
    households = sorted(targeted & known)
    return pd.DataFrame({
        "user_id": households,
        "as_of": pd.Series(as_of, index=range(len(households))).astype("datetime64[us, UTC]"),
        "scenario": "coupon",
        "label": [int(household in redeems) for household in households],
    })


def utc(times: pd.Series) -> pd.Series:
    """Local times and dates of the publisher, taken as UTC."""
    return pd.to_datetime(times).dt.tz_localize("UTC").astype("datetime64[us, UTC]")


def words(names: pd.Series) -> pd.Series:
    """`FRZN ICE` as `frzn ice`; a product without a name is `other`."""
    return names.astype("string").str.lower().str.strip().fillna("other")


if __name__ == "__main__":
    run(app)
