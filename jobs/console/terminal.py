"""The two consoles of a process: answers go to stdout, everything else goes to stderr."""

from __future__ import annotations

import sys

from rich.console import Console

out = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
err = Console(stderr=True, width=None if sys.stderr.isatty() else 120, highlight=False)
