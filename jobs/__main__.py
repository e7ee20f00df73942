"""The entry that a scheduler submits: `spark-submit jobs/__main__.py assemble --as-of 2026-01-02`.

`python -m jobs` and the command `instructue` are the same.
"""

import os
import sys

if not __package__:
    # Run as a file, its own folder would come first on the path: jobs/training/export.py is no module `export`.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from jobs.cli.main import main

if __name__ == "__main__":
    main()
