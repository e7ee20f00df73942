"""Time bands against counting."""

from __future__ import annotations

import numpy as np

from model.data.time_bands import BAND_CODES, LAST_BAND, NO_BAND, band_codes, band_days, time_bands


def test_a_band_is_the_logarithm_of_the_days() -> None:
    days = np.array([-3, *range(5000), *(2**power + step for power in range(12, 20) for step in (-2, -1, 0))])
    expected = [min(LAST_BAND, (1 + max(0, day)).bit_length() - 1) for day in days.tolist()]
    assert time_bands(days).tolist() == expected


def test_every_day_is_in_the_band_that_says_so() -> None:
    assert [band_days(band) for band in (0, 1, 2)] == [(0, 0), (1, 2), (3, 6)]
    for band in range(LAST_BAND):
        fewest, most = band_days(band)
        assert most is not None
        assert time_bands(np.array([fewest, most, most + 1])).tolist() == [band, band, band + 1]
    assert band_days(LAST_BAND) == (32_767, None)


def test_codes_are_the_rows_of_a_table() -> None:
    bands = np.array([NO_BAND - 1, NO_BAND, 0, LAST_BAND, LAST_BAND + 9])
    assert band_codes(bands).tolist() == [0, 0, 1, BAND_CODES - 1, BAND_CODES - 1]
