"""The entry that a scheduler submits: `spark-submit jobs/__main__.py assemble --as-of 2026-01-02`.

`python -m jobs` and the command `instructue` are the same.
"""

import os
import sys
from typing import NoReturn

if not __package__:
    # A file that is run directly puts its own folder, jobs/, first on the path; the root must be there instead.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from jobs.cli.extras import missing_extra


def main() -> NoReturn:
    """Run the command line; without the packages of an extra, say which one installs them."""
    try:
        from jobs.cli.main import main as command_line
    except ModuleNotFoundError as error:
        sys.exit(f"error: {missing_extra(error) or error}")
    command_line()


if __name__ == "__main__":
    main()
