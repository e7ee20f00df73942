"""User ids that look alike, against a reading with Python's own tables of Unicode."""

from __future__ import annotations

import unicodedata
from collections import defaultdict

from jobs.operations.look_alikes import LookAlikes, find_look_alikes

IDS = [
    *("u1", "U1", " u1", "u 1", "u1\t", "u1\u200b", "\ufeffu1", "\uff551", "u\u00ad1", "u1\u2060", "u\u00a01"),
    *("caf\u00e9", "cafe\u0301", "CAF\u00c9", "cafe", "\ub098", "\u1102\u1161", "\u200f7", "7"),
    *("u2", "u-2", "u_2", "07", "1", "\u0661x", "1x", "中", "\u4e2d\u3000"),
]


def literal(ids: list[str]) -> LookAlikes:
    groups: dict[str, set[str]] = defaultdict(set)
    for user in ids:
        folded = unicodedata.normalize("NFKC", user).casefold()
        folded = "".join(str(unicodedata.decimal(c, c)) for c in folded)  # digits of any script
        key = "".join(c for c in folded if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf"))
        groups[unicodedata.normalize("NFC", key)].add(user)
    alike = [sorted(group)[:4] for group in groups.values() if len(group) > 1]
    return LookAlikes(
        groups=len(alike),
        users=sum(len(group) for group in groups.values() if len(group) > 1),
        examples=sorted(alike)[:3],
    )


def test_user_ids_that_a_person_takes_for_one_are_counted(spark):
    rows = spark.createDataFrame([(user,) for user in [*IDS, "u1", "7"]], "user string")
    assert find_look_alikes(rows) == literal(IDS)


def test_user_ids_that_differ_are_not_counted(spark):
    rows = spark.createDataFrame(
        [(user,) for user in ("u1", "u2", "u2", "cafe", "caf\u00e9", "1", "01")], "user string"
    )
    assert find_look_alikes(rows) == LookAlikes(groups=0, users=0, examples=[])
