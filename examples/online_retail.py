"""An online gift shop: UCI's online retail as Delta tables, for conf/online_retail.yaml.

The data (UCI machine learning repository, CC BY 4.0) is every order line of a shop from 2010-12 to 2011-12. An order is
a bill. Its articles are another source, `goods`. A quarter of the lines has no customer and is left out. Postage lines
reveal a customer's country: they count towards an order's amount, but are not goods.

The label is "buys again in the 90 days after 2011-09-10", for the customers with an earlier order.

    python -m examples.online_retail [folder of the data]
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from examples import runner, tables
from jobs.cli import exit_codes
from jobs.config.deployment import Deployment

AS_OF = date(2011, 9, 10)
DAYS = 90
FILE = "online_retail"
ARTICLE_PATTERNS = {
    "kitchen": "cake|mug|bowl|plate|jar|tea|kitchen|spoon|lunch|baking|bottle|tin",
    "bags": r"\bbag|purse|shopper",
    "christmas": "christmas|xmas|advent|santa|reindeer",
    "light": "light|candle|lantern|lamp",
    "paper": "card|paper|wrap|notebook|pencil|tissue|sticker|ribbon",
    "children": "child|doll|toy|baby|game|spaceboy|dolly|circus|playhouse",
}
"""A column of 0 and 1 for each kind of article, and the pattern that the article's name matches."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def online_retail(
    data: Annotated[Path, typer.Argument(help="The folder of online_retail.parquet.")] = runner.DATA / "online_retail",
    steps: runner.TrainSteps = None,
    seeds: runner.SeedCount = 1,
) -> None:
    """Run all jobs on the customers of a gift shop, as of 2011-09-10."""
    part = runner.Part(config=runner.CONF / "online_retail.yaml", as_of=AS_OF, load=load)
    runner.run("online_retail", [part], data, steps=steps, seeds=seeds)


def load(deployment: Deployment, data: Path) -> dict[str, int]:
    """Write the tables that the deployment file names and return the number of rows of each.

    Raises
    ------
    DataError
        The file is missing from the folder.
    """
    rows = tables.read_tables(data, [FILE])[FILE].dropna(subset=["CustomerID"])
    lines = pd.DataFrame(
        {
            "customer_id": rows.CustomerID.astype("int64").astype(str),
            "invoice": rows.InvoiceNo.astype(str),
            "ordered_at": tables.utc(rows.InvoiceDate),
            "code": rows.StockCode.astype(str),
            "article": tables.lower_case(rows.Description),
            "quantity": rows.Quantity,
            "amount": rows.Quantity * rows.UnitPrice,
        }
    )
    order_rows = orders(lines)
    return tables.write_tables(deployment, {"orders": order_rows, "goods": goods(lines), "labels": labels(order_rows)})


def orders(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a row per invoice; a cancelled invoice is a return with a negative amount.

    `since_order` is the number of days since the customer's previous order; it is missing for the first order and for
    returns.
    """
    invoices = (
        lines.groupby(["customer_id", "invoice"], sort=True)
        .agg(
            ordered_at=("ordered_at", "min"),
            articles=("code", "nunique"),
            pieces=("quantity", "sum"),
            amount=("amount", "sum"),
        )
        .reset_index()
    )
    returned = invoices.invoice.str.startswith("C")
    kind = pd.Series("order", invoices.index).mask(returned, "return")
    bought_at = invoices.ordered_at.where(~returned)
    since_order = bought_at.sort_values(kind="stable").groupby(invoices.customer_id).diff().dt.total_seconds() / 86_400
    return invoices.assign(
        kind=kind,
        bought=(~returned).astype("int64"),
        returned=returned.astype("int64"),
        paid=invoices.amount.clip(lower=0),
        ordered_week=bought_at.dt.strftime("%G-%V"),
        ordered_month=bought_at.dt.strftime("%Y-%m"),
        since_order=since_order,
    )


def goods(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a row per article bought; `known` is 1 where the customer bought it before."""
    bought = lines[(lines.quantity > 0) & lines.code.str[0].str.isdigit()].sort_values("ordered_at", kind="stable")
    kinds = {
        name: bought.article.str.contains(pattern, regex=True).astype("int64")
        for name, pattern in ARTICLE_PATTERNS.items()
    }
    known = bought.duplicated(["customer_id", "article"]).astype("int64")
    return bought[["customer_id", "ordered_at", "article", "quantity", "amount"]].assign(
        price=bought.amount / bought.quantity, known=known, **kinds
    )


def labels(orders: pd.DataFrame) -> pd.DataFrame:
    """Return the label `again`: an order in the 90 days from `AS_OF` on, for customers with an earlier order."""
    bought = orders[orders.kind == "order"]
    first = pd.Timestamp(AS_OF, tz="UTC")
    known = set(bought[bought.ordered_at < first].customer_id)
    again = set(bought[(bought.ordered_at >= first) & (bought.ordered_at < first + timedelta(days=DAYS))].customer_id)
    return tables.label_rows("again", {customer: int(customer in again) for customer in known}, AS_OF)


if __name__ == "__main__":
    exit_codes.run(app)
