"""A real online gift shop: UCI's online retail as Delta tables, for conf/online_retail.yaml.

The data (UCI machine learning repository, CC BY 4.0) is every order line of a shop from 2010-12 to 2011-12. An order is
a bill; its articles are a source of their own, `goods`. Lines without a customer (a quarter) are nobody's history and
stay out. Postage lines would give a customer's country away: they count towards an order's amount, and are no goods.

The label is "buys again in the 90 days after 2011-09-10", over the customers with an order before.

    python -m examples.online_retail [folder of the data]
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from examples import run
from jobs.cli import exit_codes
from jobs.config.deployment import Deployment

AS_OF = date(2011, 9, 10)
DAYS = 90
FILE = "online_retail"
KINDS = {
    "kitchen": "cake|mug|bowl|plate|jar|tea|kitchen|spoon|lunch|baking|bottle|tin",
    "bags": r"\bbag|purse|shopper",
    "christmas": "christmas|xmas|advent|santa|reindeer",
    "light": "light|candle|lantern|lamp",
    "paper": "card|paper|wrap|notebook|pencil|tissue|sticker|ribbon",
    "children": "child|doll|toy|baby|game|spaceboy|dolly|circus|playhouse",
}
"""What is found in the names of articles that have a column of their own: an aggregate and a theme of the questions."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def online_retail(
    data: Annotated[Path, typer.Argument(help="Folder of online_retail.parquet.")] = run.DATA / "online_retail",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; by default the deployment file's.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many trainings, each with a seed of its own.")] = 1,
) -> None:
    """Run a gift shop's customers through the whole line as of 2011-09-10."""
    part = run.Part(config=run.CONF / "online_retail.yaml", as_of=AS_OF, load=load)
    run.run("online_retail", [part], data, steps=steps, seeds=seeds)


def load(deployment: Deployment, data: Path) -> dict[str, int]:
    """Write the data set into the lake as the tables that the deployment file names; rows of each.

    Raises
    ------
    DataError
        The file is missing from the folder.
    """
    rows = run.read(data, [FILE])[FILE].dropna(subset=["CustomerID"])
    lines = pd.DataFrame(
        {
            "customer_id": rows.CustomerID.astype("int64").astype(str),
            "invoice": rows.InvoiceNo.astype(str),
            "ordered_at": run.utc(rows.InvoiceDate),
            "code": rows.StockCode.astype(str),
            "article": run.words(rows.Description),
            "quantity": rows.Quantity,
            "amount": rows.Quantity * rows.UnitPrice,
        }
    )
    found = orders(lines)
    return run.write(deployment, {"orders": found, "goods": goods(lines), "labels": labels(found)})


def orders(lines: pd.DataFrame) -> pd.DataFrame:
    """One row per invoice; a cancelled one is a return, and its amount below zero.

    `since_order` is in days: from the customer's order before to this one, missing for the first and for returns.
    """
    counted = (
        lines.groupby(["customer_id", "invoice"], sort=True)
        .agg(
            ordered_at=("ordered_at", "min"),
            articles=("code", "nunique"),
            pieces=("quantity", "sum"),
            amount=("amount", "sum"),
        )
        .reset_index()
    )
    returned = counted.invoice.str.startswith("C")
    kind = pd.Series("order", counted.index).mask(returned, "return")
    bought_at = counted.ordered_at.where(~returned)
    since_order = bought_at.sort_values(kind="stable").groupby(counted.customer_id).diff().dt.total_seconds() / 86_400
    return counted.assign(
        kind=kind,
        bought=(~returned).astype("int64"),
        returned=returned.astype("int64"),
        paid=counted.amount.clip(lower=0),
        ordered_week=bought_at.dt.strftime("%G-%V"),
        ordered_month=bought_at.dt.strftime("%Y-%m"),
        since_order=since_order,
    )


def goods(lines: pd.DataFrame) -> pd.DataFrame:
    """One row per article bought; `known` where the customer had bought it before."""
    bought = lines[(lines.quantity > 0) & lines.code.str[0].str.isdigit()].sort_values("ordered_at", kind="stable")
    kinds = {name: bought.article.str.contains(found, regex=True).astype("int64") for name, found in KINDS.items()}
    known = bought.duplicated(["customer_id", "article"]).astype("int64")
    return bought[["customer_id", "ordered_at", "article", "quantity", "amount"]].assign(
        price=bought.amount / bought.quantity, known=known, **kinds
    )


def labels(found: pd.DataFrame) -> pd.DataFrame:
    """The label `again`: an order in the 90 days from `AS_OF` on, of the customers with one before."""
    bought = found[found.kind == "order"]
    first = pd.Timestamp(AS_OF, tz="UTC")
    known = set(bought[bought.ordered_at < first].customer_id)
    again = set(bought[(bought.ordered_at >= first) & (bought.ordered_at < first + timedelta(days=DAYS))].customer_id)
    return run.labelled("again", {customer: int(customer in again) for customer in known}, AS_OF)


if __name__ == "__main__":
    exit_codes.run(app)
