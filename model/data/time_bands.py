"""Time bands: days on a logarithmic scale, in which the network reads the time between events.

The band of a number of whole days is floor(log2(1 + days)): band 0 is less than a day, band 1 is 1 to 2 days, band 2
is 3 to 6 days. A profile stores bands, with `NO_BAND` where there is none. The network reads codes, which are bands
plus 1, with 0 where there is none.

Shapes: N values.
"""

from __future__ import annotations

import numpy as np

from model.data.arrays import Ints

NO_BAND = -1
"""Stored for the first event of a user, which has no event before it."""
LAST_BAND = 15
"""The highest band: 32,767 days (90 years) and more."""
BAND_CODES = LAST_BAND + 2
"""Number of codes: one for no band, and one for each of the bands 0 to `LAST_BAND`."""


def time_bands(days_N: Ints) -> Ints:
    """Return the band of each number of whole days; negative days count as 0.

    The result is exact, since the logarithm of a power of two is.
    """
    return np.floor(np.log2(1 + np.maximum(0, days_N))).astype(np.int64).clip(max=LAST_BAND)


def band_codes(bands_N: Ints) -> Ints:
    """Return the code of each band, 0 to `BAND_CODES` - 1; bands beyond the first and last count as these."""
    return np.clip(bands_N, NO_BAND, LAST_BAND).astype(np.int64) + 1


def band_days(band: int) -> tuple[int, int | None]:
    """Return the fewest and the most whole days of a band; the last band has no most."""
    fewest = 2**band - 1
    return fewest, None if band >= LAST_BAND else 2 * fewest
