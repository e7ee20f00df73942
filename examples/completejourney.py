"""A real retailer: the completejourney households as Delta tables, for conf/completejourney*.yaml.

The data (84.51°, CC0, the R package completejourney) is one year, 2017, of grocery purchases, campaigns
and coupons. Purchases are the bills; campaigns received and coupons redeemed are the mini-program log;
demographics are the attributes. There are no page paths and no searches, and none are made up.

    python -m examples.completejourney [folder of the data]

Three labels, a deployment each, for what is probed must not be among the inputs nor the questions:

- coupon: redeems a coupon in the second half-year, of the households that a campaign reaches then and that bought
  something before. Households never targeted almost never redeem; a label over all would flatter every model.
- income: 75K or more, and age: 55 or more, of the 801 households with demographics, as of the end of the year.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from examples import run
from jobs.cli import exit_codes
from jobs.config.deployment import Deployment

COUPON_AS_OF, YEAR_END = date(2017, 7, 1), date(2018, 1, 1)
FILES = (
    "transactions_sample",
    "products",
    "campaigns",
    "campaign_descriptions",
    "coupons",
    "coupon_redemptions",
    "demographics",
)
OLD = ("55-64", "65+")
RICH = ("75-99K", "100-124K", "125-149K", "150-174K", "175-199K", "200-249K", "250K+")
GOODS = {
    "produce": "^produce",
    "meat": "^meat|^seafood",
    "deli": "^deli|^pastry|^salad bar|^chef",
    "drug": "^drug|^cosm",
    "nutrition": "^nutrition",
    "fuel": "^fuel",
    "alcohol": "beers|wine|spirits|liquor|coolers",
    "tobacco": "cigar|tobacco",
    "soft_drinks": "soft drinks|isotonic|crystl",
    "sweets": "candy|cookie|cakes|ice cream",
    "snacks": "bag snacks|cracker|popcorn|nuts",
    "frozen": "frzn|frozen",
    "dairy": "milk|cheese|yogurt|eggs|butter",
    "baby": "baby|diaper",
    "pets": r"cat food|dog food|\bpet\b|cat litter",
    "cleaning": "paper|tissue|detergent|clean",
    "reading": "magazine|newspaper|greeting",
    "cooking": "spice|baking|vegetables|onion|sugar|flour|oil|rice|beans",
    "ready": "dinner mxs|convenien|heat/serve|prepared|pizza|soup",
    "coffee": "coffee|tea",
    "health": "organic|vitamin|fruit",
}
"""What is found in `department category` of the goods that have a column of their own: their share of the purchases."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def completejourney(
    data: Annotated[Path, typer.Argument(help="Folder of the publisher's tables.")] = run.DATA / "completejourney",
    label: Annotated[list[str] | None, typer.Option(help="Of coupon, income and age; by default all three.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; by default the deployment files'.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many trainings, each with a seed of its own.")] = 1,
) -> None:
    """Run a real retailer's households through the whole line, once for each label."""
    wrong = {*(label or [])} - {*PARTS}
    if wrong:
        raise typer.BadParameter(f"{', '.join(sorted(wrong))}: use {', '.join(PARTS)}", param_hint="--label")
    run.run("completejourney", [PARTS[name] for name in label or PARTS], data, steps=steps, seeds=seeds)


def load(deployment: Deployment, data: Path, label: str) -> dict[str, int]:
    """Write the data set into the lake as the tables that the deployment file names; rows of each.

    Parameters
    ----------
    label
        Which of `LABELS`.

    Raises
    ------
    DataError
        A file is missing from the folder.
    """
    frames = run.read(data, FILES)
    return run.write(
        deployment,
        {
            "purchases": purchases(frames["transactions_sample"], frames["products"]),
            "campaign_log": campaign_log(frames),
            "demographics": frames["demographics"].astype("string"),
            "labels": LABELS[label](frames),
        },
    )


def purchases(transactions: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """One row per line of a receipt, with the product's names; lines of one receipt stay distinct bills."""
    lines = transactions.merge(products, on="product_id", how="left")
    coupon = (lines.coupon_disc > 0) | (lines.coupon_match_disc > 0)
    discount = lines.retail_disc > 0
    time = lines.transaction_timestamp.dt
    shelf = run.words(lines.department) + " " + run.words(lines.product_category)
    return pd.DataFrame(
        {
            "household_id": lines.household_id,
            "bought_at": run.utc(lines.transaction_timestamp),
            "department": run.words(lines.department),
            "category": run.words(lines.product_category),
            "product": run.words(lines.product_type),
            "brand": lines.brand.astype("string").str.lower(),
            "store": lines.store_id,
            "quantity": lines.quantity,
            "amount": lines.sales_value,
            "price": pd.Series("at full price", lines.index).mask(discount, "on offer").mask(coupon, "with a coupon"),
            "discount": lines.retail_disc,
            "with_coupon": coupon.astype("int64"),
            "on_offer": discount.astype("int64"),
            "private_brand": (lines.brand == "Private").astype("int64"),
            "weekend": (time.dayofweek >= 5).astype("int64"),
            "morning": (time.hour < 12).astype("int64"),
            "evening": (time.hour >= 18).astype("int64"),
            "basket_id": lines.basket_id,
            **{name: shelf.str.contains(found, regex=True).astype("int64") for name, found in GOODS.items()},
        }
    )


def campaign_log(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per campaign received (at its start) and per coupon redeemed (on its day)."""
    descriptions = frames["campaign_descriptions"]
    received = frames["campaigns"].merge(descriptions, on="campaign_id")
    redeemed = frames["coupon_redemptions"].merge(descriptions, on="campaign_id")
    redeemed = redeemed.merge(shelves(frames["coupons"], frames["products"]), on="coupon_upc", how="left")
    rows = [
        pd.DataFrame(
            {
                "household_id": received.household_id,
                "logged_at": run.utc(received.start_date),
                "program": "campaign " + received.campaign_type.astype("string").str.lower(),
                "action": "received",
                "received": 1,
                "redeemed": 0,
            }
        ),
        pd.DataFrame(
            {
                "household_id": redeemed.household_id,
                "logged_at": run.utc(redeemed.redemption_date),
                "program": "campaign " + redeemed.campaign_type.astype("string").str.lower(),
                "action": "redeemed a coupon for " + run.words(redeemed.shelf),
                "received": 0,
                "redeemed": 1,
                "redeemed_on": redeemed.redemption_date.astype("string"),
                "redeemed_for": run.words(redeemed.shelf),
            }
        ),
    ]
    return pd.concat(rows, ignore_index=True)


def shelves(coupons: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """The department that most of a coupon's products stand in, as `shelf` per `coupon_upc`."""
    counts = coupons.merge(products, on="product_id").groupby(["coupon_upc", "department"]).size().reset_index(name="n")
    counts = counts.sort_values(["coupon_upc", "n", "department"], ascending=[True, False, True])
    return counts.drop_duplicates("coupon_upc").rename(columns={"department": "shelf"})[["coupon_upc", "shelf"]]


def coupon(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A redemption on or after `COUPON_AS_OF`, of the households targeted then and known before."""
    as_of = pd.Timestamp(COUPON_AS_OF, tz="UTC")
    starts = frames["campaigns"].merge(frames["campaign_descriptions"], on="campaign_id")
    targeted = set(starts[run.utc(starts.start_date) >= as_of].household_id)
    transactions = frames["transactions_sample"]
    known = set(transactions[run.utc(transactions.transaction_timestamp) < as_of].household_id)
    redemptions = frames["coupon_redemptions"]
    redeems = set(redemptions[run.utc(redemptions.redemption_date) >= as_of].household_id)
    label = {household: int(household in redeems) for household in targeted & known}
    return run.labelled("coupon", label, COUPON_AS_OF)


def demographic(frames: dict[str, pd.DataFrame], column: str, values: tuple[str, ...]) -> pd.DataFrame:
    """Whether a column of the demographics has one of these values; the label has the column's name."""
    households = frames["demographics"].dropna(subset=[column])
    return run.labelled(
        column, dict(zip(households.household_id, households[column].isin(values).astype(int), strict=True)), YEAR_END
    )


LABELS: dict[str, Callable[[dict[str, pd.DataFrame]], pd.DataFrame]] = {
    "coupon": coupon,
    "income": partial(demographic, column="income", values=RICH),
    "age": partial(demographic, column="age", values=OLD),
}
PARTS = {
    label: run.Part(config=run.CONF / f"completejourney{end}.yaml", as_of=as_of, load=partial(load, label=label))
    for label, end, as_of in (("coupon", "", COUPON_AS_OF), ("income", "_income", YEAR_END), ("age", "_age", YEAR_END))
}

if __name__ == "__main__":
    exit_codes.run(app)
