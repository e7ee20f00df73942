"""A grocery retailer: the completejourney households as Delta tables, for conf/completejourney*.yaml.

The data (84.51°, CC0, the R package completejourney) is one year, 2017, of purchases, campaigns and coupons. Purchases
are the bills. Campaigns received and coupons redeemed are the mini-program log. Demographics are the attributes. The
data has no page paths and no searches.

    python -m examples.completejourney [folder of the data]

There are three labels. Each has a deployment of its own, because a label's column may be neither an input nor a
question:

- coupon: the household redeems a coupon in the second half-year. Only households that a campaign reaches then, and that
  bought before, are labelled: other households almost never redeem, which would raise the AUC of every model.
- income: 75K or more, and age: 55 or more, at the end of the year, of the 801 households with demographics.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from examples import runner, tables
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
AGES_FROM_55 = ("55-64", "65+")
INCOMES_FROM_75K = ("75-99K", "100-124K", "125-149K", "150-174K", "175-199K", "200-249K", "250K+")
CATEGORY_PATTERNS = {
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
"""A column of 0 and 1 for each kind of goods, and the pattern that its `department category` matches."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def completejourney(
    data: Annotated[Path, typer.Argument(help="The folder of the publisher's tables.")] = runner.DATA
    / "completejourney",
    label: Annotated[
        list[str] | None, typer.Option(help="coupon, income or age; may be repeated.", show_default="all three")
    ] = None,
    steps: runner.TrainSteps = None,
    seeds: runner.SeedCount = 1,
) -> None:
    """Run all jobs on the households of a retailer, once for each label."""
    unknown = {*(label or [])} - {*PARTS}
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: use {', '.join(PARTS)}", param_hint="--label")
    runner.run("completejourney", [PARTS[name] for name in label or PARTS], data, steps=steps, seeds=seeds)


def load(deployment: Deployment, data: Path, label: str) -> dict[str, int]:
    """Write the tables that the deployment file names and return the number of rows of each.

    Parameters
    ----------
    label
        One of `LABELS`.

    Raises
    ------
    DataError
        A file is missing from the folder.
    """
    frames = tables.read_tables(data, FILES)
    return tables.write_tables(
        deployment,
        {
            "purchases": purchases(frames["transactions_sample"], frames["products"]),
            "campaign_log": campaign_log(frames),
            "demographics": frames["demographics"].astype("string"),
            "labels": LABELS[label](frames),
        },
    )


def purchases(transactions: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Return a row per line of a receipt, with the product's names."""
    lines = transactions.merge(products, on="product_id", how="left")
    coupon = (lines.coupon_disc > 0) | (lines.coupon_match_disc > 0)
    discount = lines.retail_disc > 0
    time = lines.transaction_timestamp.dt
    shelf = tables.lower_case(lines.department) + " " + tables.lower_case(lines.product_category)
    return pd.DataFrame(
        {
            "household_id": lines.household_id,
            "bought_at": tables.utc(lines.transaction_timestamp),
            "department": tables.lower_case(lines.department),
            "category": tables.lower_case(lines.product_category),
            "product": tables.lower_case(lines.product_type),
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
            **{
                name: shelf.str.contains(pattern, regex=True).astype("int64")
                for name, pattern in CATEGORY_PATTERNS.items()
            },
        }
    )


def campaign_log(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row per campaign received, at its start, and per coupon redeemed, on its day."""
    descriptions = frames["campaign_descriptions"]
    received = frames["campaigns"].merge(descriptions, on="campaign_id")
    redeemed = frames["coupon_redemptions"].merge(descriptions, on="campaign_id")
    redeemed = redeemed.merge(shelves(frames["coupons"], frames["products"]), on="coupon_upc", how="left")
    rows = [
        pd.DataFrame(
            {
                "household_id": received.household_id,
                "logged_at": tables.utc(received.start_date),
                "program": "campaign " + received.campaign_type.astype("string").str.lower(),
                "action": "received",
                "received": 1,
                "redeemed": 0,
            }
        ),
        pd.DataFrame(
            {
                "household_id": redeemed.household_id,
                "logged_at": tables.utc(redeemed.redemption_date),
                "program": "campaign " + redeemed.campaign_type.astype("string").str.lower(),
                "action": "redeemed a coupon for " + tables.lower_case(redeemed.shelf),
                "received": 0,
                "redeemed": 1,
                "redeemed_on": redeemed.redemption_date.astype("string"),
                "redeemed_for": tables.lower_case(redeemed.shelf),
            }
        ),
    ]
    return pd.concat(rows, ignore_index=True)


def shelves(coupons: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Return the most frequent department of each coupon's products, as `shelf` per `coupon_upc`."""
    counts = coupons.merge(products, on="product_id").groupby(["coupon_upc", "department"]).size().reset_index(name="n")
    counts = counts.sort_values(["coupon_upc", "n", "department"], ascending=[True, False, True])
    return counts.drop_duplicates("coupon_upc").rename(columns={"department": "shelf"})[["coupon_upc", "shelf"]]


def coupon(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the label of a redemption from `COUPON_AS_OF` on, for households targeted then that bought before."""
    as_of = pd.Timestamp(COUPON_AS_OF, tz="UTC")
    starts = frames["campaigns"].merge(frames["campaign_descriptions"], on="campaign_id")
    targeted = set(starts[tables.utc(starts.start_date) >= as_of].household_id)
    transactions = frames["transactions_sample"]
    known = set(transactions[tables.utc(transactions.transaction_timestamp) < as_of].household_id)
    redemptions = frames["coupon_redemptions"]
    redeems = set(redemptions[tables.utc(redemptions.redemption_date) >= as_of].household_id)
    label = {household: int(household in redeems) for household in targeted & known}
    return tables.label_rows("coupon", label, COUPON_AS_OF)


def demographic(frames: dict[str, pd.DataFrame], column: str, values: tuple[str, ...]) -> pd.DataFrame:
    """Return the label that a column of the demographics has one of these values, under the column's name."""
    households = frames["demographics"].dropna(subset=[column])
    return tables.label_rows(
        column, dict(zip(households.household_id, households[column].isin(values).astype(int), strict=True)), YEAR_END
    )


LABELS: dict[str, Callable[[dict[str, pd.DataFrame]], pd.DataFrame]] = {
    "coupon": coupon,
    "income": partial(demographic, column="income", values=INCOMES_FROM_75K),
    "age": partial(demographic, column="age", values=AGES_FROM_55),
}
PARTS = {
    label: runner.Part(config=runner.CONF / f"completejourney{end}.yaml", as_of=as_of, load=partial(load, label=label))
    for label, end, as_of in (("coupon", "", COUPON_AS_OF), ("income", "_income", YEAR_END), ("age", "_age", YEAR_END))
}

if __name__ == "__main__":
    exit_codes.run(app)
