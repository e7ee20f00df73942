"""The users of a made-up company: their hidden traits, and the events and labels that follow from them.

Everything depends on (seed, first day, chunk of users, source) alone: each chunk has its own streams of random numbers,
so one source can be generated again by itself, and a million users are never in memory at once. Nothing here depends on
`as_of`: `jobs.synthetic.generate` cuts the same history at another arrival time.

Shapes: U users of a chunk, K traits, P periods of 30 days, G groups of texts, E events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.synthetic.event_texts import GROUPS, SLOTS, SOURCES, TRAITS, loadings, texts

DAY = 86_400_000_000
"""Microseconds."""
TIME = pa.timestamp("us", tz="UTC")
"""The type of times in the tables."""
PERIOD = 30
"""Days during which traits are constant; the labels' month is exactly one period."""
PAST = 19
"""Periods before the first day."""
AFTER = 2
"""Periods from the first day on."""

EVENTS = {"bills": 4.6, "mini_program_logs": 5.2, "page_paths": 8.5, "searches": 2.4}
"""Mean events of a user in a period."""
THEME_SHARE = 0.47
"""Share of an average user's events that depend on traits. Busier users have more everyday life: .39 over all."""
ABSENT = {"bills": 0.02, "mini_program_logs": 0.08, "page_paths": 0.08, "searches": 0.15}
"""Share of users who never use a source."""
CAMPAIGN = 6.0
"""Factor of the rate of a theme of FUTURE_LABELS in its source from the first day on. It makes a user's past count of
the theme a weak predictor, and the other events that depend on the same traits a stronger one."""
HABIT = 0.55
"""Share of a user's events in a group that have one of their few habitual texts."""
HABITS = 3
"""Habitual texts of a user in a group."""
LATE = 0.01
"""Share of events that arrive a day or more later."""
JOINED_LATER = 0.12
"""Share of users who joined after the simulated time began."""

NOISE = 0.6
"""Standard deviation of the noise of attribute labels, as a share of that of the traits."""


@dataclass(frozen=True, kw_only=True)
class AttributeLabel:
    """A label of a user attribute: whether a mixture of traits on the first day, plus noise, is above a threshold."""

    share: float
    """Share of ones."""
    weights: dict[str, float]
    """Weights of traits."""
    gate: str | None = None
    """Trait above 0 of the users with `weights`; None: all users."""
    otherwise: dict[str, float] = field(default_factory=dict)
    """Weights of the other users, with the norm of `weights`, so that both have the same threshold."""

    def above_gate(self, traits_UK: np.ndarray) -> np.ndarray:
        """Return the users with `weights`, bool [U]."""
        return np.ones(len(traits_UK), bool) if self.gate is None else traits_UK[:, TRAITS.index(self.gate)] > 0

    def scores(self, traits_UK: np.ndarray) -> np.ndarray:
        """Return each user's mixture of traits without noise, float [U]."""
        return np.where(
            self.above_gate(traits_UK), traits_UK @ _weights(self.weights), traits_UK @ _weights(self.otherwise)
        )


ATTRIBUTE_LABELS = {
    "public_transit": AttributeLabel(share=0.40, weights={"commute": 1.0, "thrift": 0.45, "busy": -0.35}),
    "purchasing_power": AttributeLabel(share=0.30, weights={"wealth": 1.0, "thrift": -0.4, "learning": 0.35}),
    "film": AttributeLabel(share=0.35, weights={"cinephile": 1.0, "youth": 0.4, "family": -0.4}),
    # The campaign offers savings to families and games to others: no trait has the same effect on all users.
    "campaign": AttributeLabel(share=0.35, weights={"thrift": 1.0}, gate="family", otherwise={"play": 1.0}),
    # The traits of the theme `pets`.
    "pet_owner": AttributeLabel(share=0.35, weights={"nature": 1.23, "family": -0.56}),
}
FUTURE_LABELS = {
    "forest_click": ("page_paths", "forest", 1),
    "game_topup": ("bills", "games", 1),
    "food": ("bills", "delivery", 1),
}
"""Labels of events in the 30 days from the first day: source, theme, and the number of events that makes a 1."""
NAMES = [group.name for group in GROUPS]
LABELS = ("forest_click", "game_topup", "public_transit", "purchasing_power", "food", "film", "campaign", "pet_owner")


@dataclass(frozen=True, kw_only=True)
class Company:
    """A company of `users` users; the simulated time ends `AFTER` periods after `first_day`."""

    users: int
    seed: int
    first_day: date
    chunk: int = 5_000

    def chunks(self) -> Iterator[Chunk]:
        """Yield the users in order, at most `chunk` at a time."""
        for start in range(0, self.users, self.chunk):
            yield Chunk(company=self, start=start, users=min(self.chunk, self.users - start))

    @property
    def midnight(self) -> int:
        """The first day's midnight, microseconds since 1970 (UTC)."""
        return (self.first_day - date(1970, 1, 1)).days * DAY


@dataclass(frozen=True, kw_only=True)
class Events:
    """Every unbroken event of a chunk's users in one source, in order of user and time."""

    user_E: np.ndarray
    """Number of the user in the company."""
    text_E: np.ndarray
    """Row of `event_texts.texts(source)`."""
    time_E: np.ndarray
    """Microseconds since 1970 (UTC)."""
    arrived_E: np.ndarray
    amount_E: np.ndarray
    """CNY; meaningful for bills."""
    late_E: np.ndarray

    def __len__(self) -> int:
        return len(self.user_E)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive users of a company."""

    company: Company
    start: int
    users: int

    def random(self, purpose: str) -> np.random.Generator:
        """Return this chunk's own stream of random numbers for one purpose."""
        company = self.company
        return np.random.default_rng([company.seed, company.first_day.toordinal(), self.start, *purpose.encode()])

    def traits(self) -> np.ndarray:
        """Return the hidden traits, float [U, K, P]: standard normal, mostly lasting, partly drifting over months."""
        rng = self.random("traits")
        lasting = rng.normal(size=(self.users, len(TRAITS), 1))
        drift = rng.normal(size=(self.users, len(TRAITS), PAST + AFTER))
        for period in range(1, PAST + AFTER):
            drift[..., period] = 0.85 * drift[..., period - 1] + np.sqrt(1 - 0.85**2) * drift[..., period]
        return 0.9 * lasting + np.sqrt(1 - 0.9**2) * drift

    def traits_on_first_day(self) -> np.ndarray:
        """Return the hidden traits on the first day, float [U, K]."""
        return self.traits()[:, :, PAST]

    def activity(self) -> np.ndarray:
        """Return each user's activity in each source, float [U, sources]: log-normal, 0 where they never use it."""
        rng = self.random("activity")
        level = np.exp(0.4 * rng.normal(size=(self.users, 1)) + 0.35 * rng.normal(size=(self.users, len(SOURCES))))
        absent = rng.random((self.users, len(SOURCES))) < np.array([ABSENT[source] for source in SOURCES])
        return np.where(absent, 0.0, level / np.exp((0.4**2 + 0.35**2) / 2))

    def joined(self) -> np.ndarray:
        """Return the day each user joined, days since 1970, int [U]; most joined before the history begins."""
        rng = self.random("joined")
        begin = self.company.midnight // DAY - PAST * PERIOD
        later = rng.random(self.users) < JOINED_LATER
        return np.where(
            later, begin + rng.integers(0, (PAST - 1) * PERIOD, self.users), begin - rng.integers(1, 3000, self.users)
        )

    def rates(self, source: str) -> np.ndarray:
        """Return the expected number of events, float [U, P, G]."""
        rng = self.random(f"tastes {source}")
        traits_UPK = self.traits().transpose(0, 2, 1)
        load_GK = loadings()
        pull_UPG = traits_UPK @ load_GK.T - (load_GK**2).sum(axis=1) / 2
        theme = np.array([bool(group.loadings) for group in GROUPS])
        common = self.random("tastes").normal(size=(self.users, 1, len(GROUPS)))
        taste = np.where(theme, 0.2, 0.6) * common + np.where(theme, 0.2, 0.5) * rng.normal(size=common.shape)
        weight = np.array([group.share.get(source, 1.0) for group in GROUPS])
        share = np.where(
            theme, THEME_SHARE * weight / weight[theme].sum(), (1 - THEME_SHARE) * weight / weight[~theme].sum()
        )
        activity = self.activity()[:, SOURCES.index(source), None, None]
        level = np.where(theme, np.sqrt(activity), activity) * (activity > 0)
        rates = EVENTS[source] * share * level * np.exp(np.minimum(pull_UPG, 3.0) + taste)
        for label_source, name, _ in FUTURE_LABELS.values():
            if label_source == source:
                rates[:, PAST:, NAMES.index(name)] *= CAMPAIGN
        return np.asarray(rates)

    def events(self, source: str) -> Events:
        """Return the users' events in one source over the whole simulated time."""
        rng = self.random(f"events {source}")
        count_UPG = rng.poisson(self.rates(source))
        user, period, group = (
            np.repeat(index, count_UPG.ravel()) for index in (axis.ravel() for axis in np.indices(count_UPG.shape))
        )
        day = self.company.midnight // DAY + (period - PAST) * PERIOD + rng.integers(0, PERIOD, len(user))
        text = self._texts(source, user, group, rng)
        late = rng.random(len(user)) < LATE
        delay = np.where(late, rng.integers(DAY, 3 * DAY, len(user)), rng.integers(2_000_000, 300_000_000, len(user)))
        hour = np.array(SLOTS)[texts(source).slot_T[text]] + 1.3 * rng.random(len(user))
        # Whole seconds and never midnight; rows that are not late arrive on the day of the event.
        time = day * DAY + (hour * 3600).astype(np.int64) * 1_000_000
        rebate = rng.choice([1, 0.95, 1.05], p=[0.8, 0.1, 0.1], size=len(user))
        keep = day >= self.joined()[user]
        order = np.lexsort((time[keep], user[keep]))

        def pick(values: np.ndarray) -> np.ndarray:
            return np.asarray(values[keep][order])

        return Events(
            user_E=pick(user) + self.start,
            text_E=pick(text),
            time_E=pick(time),
            arrived_E=pick(time + delay),
            late_E=pick(late),
            amount_E=np.round(pick(texts(source).price_T[text] * rebate), 2),
        )

    def _texts(self, source: str, user: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a text of the group for each event: often a habitual one, and the dearer of two for wealthy users."""
        catalogue = texts(source)
        size = len(catalogue) // len(GROUPS)
        # Group g has the interval from g to g + 1, divided by its texts' weights.
        ends_GT = catalogue.weight_T.reshape(len(GROUPS), size).cumsum(axis=1)
        ends_GT[:, -1] = 1
        ends = (ends_GT + np.arange(len(GROUPS))[:, None]).ravel()
        wealth = self.traits_on_first_day()[:, TRAITS.index("wealth")]

        def draw(group_N: np.ndarray, wealth_N: np.ndarray) -> np.ndarray:
            first, second = (np.searchsorted(ends, group_N + rng.random(len(group_N)), side="right") for _ in range(2))
            dearer = catalogue.price_T[second] > catalogue.price_T[first]
            want_dearer = rng.random(len(group_N)) < 1 / (1 + np.exp(-0.4 * wealth_N))
            return np.where(dearer == want_dearer, second, first)

        habit_UGH = draw(
            np.tile(np.repeat(np.arange(len(GROUPS)), HABITS), self.users), np.repeat(wealth, len(GROUPS) * HABITS)
        ).reshape(self.users, len(GROUPS), HABITS)
        habitual = habit_UGH[user, group, rng.choice(HABITS, p=[0.6, 0.3, 0.1], size=len(user))]
        return np.where(rng.random(len(user)) < HABIT, habitual, draw(group, wealth[user]))

    def labels(self, events: dict[str, Events] | None = None) -> dict[str, np.ndarray]:
        """Return the labels as of the first day, bool [U] each; without `events` they are generated again."""
        if events is None:
            events = {source: self.events(source) for source in {source for source, _, _ in FUTURE_LABELS.values()}}
        return {
            name: self.attribute_label(name) if name in ATTRIBUTE_LABELS else self.future_label(name, events)
            for name in LABELS
        }

    def attribute_label(self, name: str) -> np.ndarray:
        """Return a label of a user attribute, bool [U]."""
        label = ATTRIBUTE_LABELS[name]
        spread = float(np.linalg.norm(_weights(label.weights)))
        noise = self.random(f"label {name}").normal(0, NOISE * spread, self.users)
        scores = label.scores(self.traits_on_first_day()) + noise
        return scores > spread * np.sqrt(1 + NOISE**2) * NormalDist().inv_cdf(1 - label.share)

    def future_label(self, name: str, events: dict[str, Events]) -> np.ndarray:
        """Return a label of a future event: whether the theme has enough events in the 30 days from the first day."""
        source, theme, minimum = FUTURE_LABELS[name]
        own = events[source]
        begin = self.company.midnight
        counted = (
            (texts(source).group_T[own.text_E] == NAMES.index(theme))
            & (own.time_E >= begin)
            & (own.time_E < begin + PERIOD * DAY)
        )
        return np.bincount(own.user_E[counted] - self.start, minlength=self.users) >= minimum


def _weights(weights: dict[str, float]) -> np.ndarray:
    """Return the weight of every trait, 0 where not named, float [K]."""
    return np.array([weights.get(trait, 0.0) for trait in TRAITS])


def user_ids(user_N: np.ndarray) -> pa.Array:
    """Return the ids of users by their numbers in the company, `u0000012` for 12."""
    return pc.binary_join_element_wise("u", pc.utf8_lpad(pa.array(user_N).cast(pa.string()), 7, "0"), "")
