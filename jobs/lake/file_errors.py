"""Files of the company that a running query could not read: what is wrong with which file, and what to do."""

from __future__ import annotations

import re

HEADER = re.compile(
    r"CSV header does not conform to the schema.*?Header: (?P<header>.*?)\s*Schema: (?P<schema>.*?)\s*Expected.*?"
    r"CSV file: (?P<file>\S+)",
    re.DOTALL,
)
HEADER_LENGTH = re.compile(
    r"Number of column in CSV header is not equal to number of fields in the schema:\s*Header length: (?P<header>\d+), "
    r"schema size: (?P<schema>\d+)\s*CSV file: (?P<file>\S+)"
)


def file_error(messages: list[str]) -> str | None:
    """Return the error of a file that does not fit its declaration; None where no message is about one."""
    for message in messages:
        if match := HEADER.search(message) or HEADER_LENGTH.search(message):
            return (
                f"the header of {match['file']} has the columns {match['header']}, and `schema` declares "
                f"{match['schema']}; write `schema` in the order of the header, with the same names"
            )
    return None
