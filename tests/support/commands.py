"""The commands that a message names, run as a person would run them."""

from __future__ import annotations

import re
import shlex
from typing import Any

from jobs.config.deployment import Deployment
from jobs.lake.sql.query import run_sql


def follow(spark: Any, deployment: Deployment, message: object, **given: str) -> None:
    """Run each `instructue sql` that a message names; `given` are the texts that replace what is in <...>."""
    commands = re.findall(r"`(instructue sql .*?'|instructue sql \".*?\")`(?=[,;]|$)", str(message))
    assert commands, message
    for command in commands:
        for name, text in given.items():
            command = re.sub(rf"<[^>]*{name}[^>]*>", text, command)
        [statement] = shlex.split(command)[2:]
        run_sql(spark, deployment, statement).collect()
