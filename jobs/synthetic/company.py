"""The users of a made-up company: their hidden traits, what they do because of them, and what they are.

Everything follows from (seed, first day, chunk of users, source): a chunk's stream of random numbers is its
own, so one source can be made alone and again, and a million users never lie in memory at once. Nothing here
depends on the day that is asked for: `jobs.synthetic.generate` cuts the same history at another arrival time.

Shapes: U users of a chunk, K traits, P periods of 30 days, G groups of texts, E events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from statistics import NormalDist

import numpy as np

from jobs.synthetic.event_texts import EVERYDAY, GROUPS, SLOTS, SOURCES, THEMES, TRAITS, loadings, texts

DAY = 86_400_000_000
"""Microseconds."""
PERIOD = 30
"""Days over which traits stand still; the labels' month is exactly one."""
PAST = 19
"""Periods before the first day."""
AFTER = 2
"""Periods from the first day on."""

EVENTS = {"bills": 4.6, "mini_program_logs": 5.2, "page_paths": 8.5, "searches": 2.4}
"""Mean events of a user in a period."""
TELLING = 0.47
"""Share of an average user's events that depend on traits; busier users have more everyday life: .39 over all."""
ABSENT = {"bills": 0.02, "mini_program_logs": 0.08, "page_paths": 0.08, "searches": 0.15}
"""Share of users who never use a source."""
CAMPAIGN = 6.0
"""How much more often than before a theme of FUTURE_LABELS turns up from the first day on, in its source: so a
user's own past count says little, and what else his traits make him do says more."""
HABIT = 0.55
"""Share of a user's events in a group that go to one of his few habitual texts."""
HABITS = 3
LATE = 0.01
JOINED_LATER = 0.12

ATTRIBUTE_LABELS = {
    "public_transit": ({"commute": 1.0, "thrift": 0.45, "busy": -0.35}, 0.40),
    "purchasing_power": ({"wealth": 1.0, "thrift": -0.4, "learning": 0.35}, 0.30),
    "film": ({"cinephile": 1.0, "youth": 0.4, "family": -0.4}, 0.35),
}
"""Labels of what a user is: weights of traits on the first day, and the share of ones."""
NOISE = 0.6
"""Standard deviation of what no trait explains, as a share of the traits' own."""
FUTURE_LABELS = {
    "forest_click": ("page_paths", "forest", 1),
    "game_topup": ("bills", "games", 1),
    "food": ("bills", "delivery", 1),
}
"""Labels of what a user does in the 30 days from the first day: source, theme, and how many events make a 1."""
NAMES = [group.name for group in GROUPS]
LABELS = ("forest_click", "game_topup", "public_transit", "purchasing_power", "food", "film")


@dataclass(frozen=True, kw_only=True)
class Company:
    """A company of `users` users; the simulated time ends `AFTER` periods after `first_day`."""

    users: int
    seed: int
    first_day: date
    changed_share: float | None
    """Share of users with any event on the first day; None: as it comes."""
    quiet_ages: tuple[int, ...] = ()
    """Whole days before the first day on which quiet users did nothing."""
    chunk: int = 5_000

    def chunks(self) -> Iterator[Chunk]:
        """The users in order, at most `chunk` at a time."""
        for start in range(0, self.users, self.chunk):
            yield Chunk(company=self, start=start, users=min(self.chunk, self.users - start))

    @property
    def midnight(self) -> int:
        """The first day's midnight, microseconds since 1970 (UTC)."""
        return (self.first_day - date(1970, 1, 1)).days * DAY


@dataclass(frozen=True, kw_only=True)
class Events:
    """Everything that a chunk's users did in one source, unbroken, in order of user and time."""

    user_E: np.ndarray
    """Number of the user in the company."""
    text_E: np.ndarray
    """Row of `catalogue.texts(source)`."""
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
        """This chunk's own stream of random numbers for one purpose."""
        company = self.company
        return np.random.default_rng([company.seed, company.first_day.toordinal(), self.start, *purpose.encode()])

    def traits(self) -> np.ndarray:
        """Hidden traits, float [U, K, P]: standard normal, mostly lasting, partly drifting over months."""
        rng = self.random("traits")
        lasting = rng.normal(size=(self.users, len(TRAITS), 1))
        drift = rng.normal(size=(self.users, len(TRAITS), PAST + AFTER))
        for period in range(1, PAST + AFTER):
            drift[..., period] = 0.85 * drift[..., period - 1] + np.sqrt(1 - 0.85**2) * drift[..., period]
        return 0.9 * lasting + np.sqrt(1 - 0.9**2) * drift

    def traits_then(self) -> np.ndarray:
        """Traits on the first day, float [U, K]."""
        return self.traits()[:, :, PAST]

    def activity(self) -> np.ndarray:
        """How busy a user is in each source, float [U, sources], log-normal; 0 where he never uses it."""
        rng = self.random("activity")
        level = np.exp(0.4 * rng.normal(size=(self.users, 1)) + 0.35 * rng.normal(size=(self.users, len(SOURCES))))
        absent = rng.random((self.users, len(SOURCES))) < np.array([ABSENT[source] for source in SOURCES])
        return np.where(absent, 0.0, level / np.exp((0.4**2 + 0.35**2) / 2))

    def joined(self) -> np.ndarray:
        """Day a user joined, days since 1970, int [U]: most before the history begins."""
        rng = self.random("joined")
        begin = self.company.midnight // DAY - PAST * PERIOD
        later = rng.random(self.users) < JOINED_LATER
        return np.where(
            later, begin + rng.integers(0, (PAST - 1) * PERIOD, self.users), begin - rng.integers(1, 3000, self.users)
        )

    def changed(self) -> np.ndarray:
        """Users who may change on the first day, bool [U]; the others are quiet."""
        share = self.company.changed_share
        if share is None:
            return np.ones(self.users, dtype=bool)
        rank = self.random("changed").permutation(self.users)
        return rank < round(share * self.users)

    def rates(self, source: str) -> np.ndarray:
        """Expected events, float [U, P, G]."""
        rng = self.random(f"tastes {source}")
        traits_UPK = self.traits().transpose(0, 2, 1)
        load_GK = loadings()
        pull_UPG = traits_UPK @ load_GK.T - (load_GK**2).sum(axis=1) / 2
        theme = np.array([bool(group.loadings) for group in GROUPS])
        common = self.random("tastes").normal(size=(self.users, 1, len(GROUPS)))
        taste = np.where(theme, 0.2, 0.6) * common + np.where(theme, 0.2, 0.5) * rng.normal(size=common.shape)
        weight = np.array([group.share.get(source, 1.0) for group in GROUPS])
        share = np.where(theme, TELLING * weight / weight[theme].sum(), (1 - TELLING) * weight / weight[~theme].sum())
        activity = self.activity()[:, SOURCES.index(source), None, None]
        level = np.where(theme, np.sqrt(activity), activity) * (activity > 0)
        rates = EVENTS[source] * share * level * np.exp(np.minimum(pull_UPG, 3.0) + taste)
        for where, name, _ in FUTURE_LABELS.values():
            if where == source:
                rates[:, PAST:, NAMES.index(name)] *= CAMPAIGN
        return np.asarray(rates)

    def events(self, source: str) -> Events:
        """What the users did in one source over the whole simulated time."""
        rng = self.random(f"events {source}")
        count_UPG = rng.poisson(self.rates(source))
        user, period, group = (
            np.repeat(index, count_UPG.ravel()) for index in (axis.ravel() for axis in np.indices(count_UPG.shape))
        )
        day = self.company.midnight // DAY + (period - PAST) * PERIOD + rng.integers(0, PERIOD, len(user))
        user, group, day = self._on_the_first_day(source, user, group, day, rng)
        text = self._texts(source, user, group, rng)
        late = rng.random(len(user)) < LATE
        delay = np.where(late, rng.integers(DAY, 3 * DAY, len(user)), rng.integers(2_000_000, 300_000_000, len(user)))
        hour = np.array(SLOTS)[texts(source).slot_T[text]] + 1.3 * rng.random(len(user))
        # Whole seconds, never midnight, and punctual rows arrive on the day they happened.
        time = day * DAY + (hour * 3600).astype(np.int64) * 1_000_000
        rebate = rng.choice([1, 0.95, 1.05], p=[0.8, 0.1, 0.1], size=len(user))
        keep = self._allowed(user, day, (time + delay) // DAY)
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

    def _on_the_first_day(
        self, source: str, user: np.ndarray, group: np.ndarray, day: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One more bill on the first day for each user who is to change then, so that he does."""
        if self.company.changed_share is None or source != "bills":
            return user, group, day
        more = np.flatnonzero(self.changed())
        everyday = rng.integers(len(THEMES), len(THEMES) + len(EVERYDAY), len(more))
        today = np.full(len(more), self.company.midnight // DAY)
        return np.concatenate([user, more]), np.concatenate([group, everyday]), np.concatenate([day, today])

    def _texts(self, source: str, user: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A text of the group for each event: often a habitual one, and the dearer of two for the wealthy."""
        catalogue = texts(source)
        size = len(catalogue) // len(GROUPS)
        # Group g owns the interval from g to g + 1, cut by its texts' weights.
        ends_GT = catalogue.weight_T.reshape(len(GROUPS), size).cumsum(axis=1)
        ends_GT[:, -1] = 1
        ends = (ends_GT + np.arange(len(GROUPS))[:, None]).ravel()
        wealth = self.traits_then()[:, TRAITS.index("wealth")]

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

    def _allowed(self, user: np.ndarray, day: np.ndarray, arrival_day: np.ndarray) -> np.ndarray:
        """Events after joining that do not disturb a quiet user on the first day, bool [E]."""
        first = self.company.midnight // DAY
        stirring = (day == first) | (arrival_day == first) | np.isin(first - 1 - day, self.company.quiet_ages)
        if self.company.changed_share is None:
            stirring[:] = False
        return (day >= self.joined()[user]) & ~(stirring & ~self.changed()[user])

    def labels(self, events: dict[str, Events] | None = None) -> dict[str, np.ndarray]:
        """Labels as of the first day, bool [U] each; `events` of the sources of FUTURE_LABELS, if at hand."""
        if events is None:
            events = {source: self.events(source) for source in {source for source, _, _ in FUTURE_LABELS.values()}}
        return {
            name: self.attribute_label(name) if name in ATTRIBUTE_LABELS else self.future_label(name, events)
            for name in LABELS
        }

    def attribute_label(self, name: str) -> np.ndarray:
        """What a user is: a mixture of traits, plus noise, above a threshold."""
        weights, share = ATTRIBUTE_LABELS[name]
        weight_K = np.array([weights.get(trait, 0.0) for trait in TRAITS])
        spread = np.linalg.norm(weight_K)
        noise = self.random(f"label {name}").normal(0, NOISE * spread, self.users)
        score = self.traits_then() @ weight_K + noise
        return np.asarray(score > spread * np.sqrt(1 + NOISE**2) * NormalDist().inv_cdf(1 - share))

    def future_label(self, name: str, events: dict[str, Events]) -> np.ndarray:
        """What a user does: at least so many events of the theme in the 30 days from the first day."""
        source, theme, least = FUTURE_LABELS[name]
        done = events[source]
        begin = self.company.midnight
        counted = (
            (texts(source).group_T[done.text_E] == NAMES.index(theme))
            & (done.time_E >= begin)
            & (done.time_E < begin + PERIOD * DAY)
        )
        return np.bincount(done.user_E[counted] - self.start, minlength=self.users) >= least
