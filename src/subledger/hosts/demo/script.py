"""What happens in the demo, decided from the seed before anything runs.

Every draw is made here, in one order, so that the same seed gives the same customers, choices and
moments whatever the machine does at the same time.
"""

from __future__ import annotations

import csv
import random
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
MONTHS = 6
CUSTOMERS = 200
BUYING_DAYS = 20
SECURE, DISPUTES, REFUNDED = 2, 3, 4
"""Numbers of the customers who act in what goes wrong (``troubles``)."""
CARD, SECURE_CARD = "4242 4242 4242 4242", "4000 0000 0000 3184"
"""The second one's bank asks its payer at every payment."""
MARKETS = (
    ("RUB", "Europe/Moscow", "ru", "RU"),
    ("EUR", "Europe/Berlin", "de", "DE"),
    ("EUR", "Europe/Lisbon", "pt", "PT"),
    ("USD", "America/New_York", "en", "US"),
    ("USD", "America/Los_Angeles", "en", "US"),
    ("JPY", "Asia/Tokyo", "ja", "JP"),
    ("KWD", "Asia/Kuwait", "ar", "KW"),
)
PRICES = {
    "one": {"EUR": 599, "USD": 699, "RUB": 29900, "JPY": 900, "KWD": 1950},
    "three": {"EUR": 999, "USD": 1199, "RUB": 49900, "JPY": 1500, "KWD": 3250},
    "all": {"EUR": 1499, "USD": 1799, "RUB": 79900, "JPY": 2300, "KWD": 4900},
}
_FIRST = (
    "Ada",
    "Anna",
    "Boris",
    "Chiyo",
    "Dmitri",
    "Emma",
    "Farid",
    "Grace",
    "Hiro",
    "Ivan",
    "Jasmin",
    "Katya",
    "Liam",
    "Marta",
    "Noor",
    "Olga",
    "Pedro",
    "Rosa",
    "Sofia",
    "Tomas",
    "Uma",
    "Vera",
    "Yuki",
    "Zahra",
)
_LAST = (
    "Adler",
    "Bauer",
    "Costa",
    "Diaz",
    "Egorov",
    "Fischer",
    "Garcia",
    "Hayashi",
    "Ito",
    "Jansen",
    "Kuznetsov",
    "Lopes",
    "Meyer",
    "Nakamura",
    "Orlov",
    "Petrova",
    "Rossi",
    "Sato",
    "Tanaka",
    "Volkov",
)


@dataclass(frozen=True, slots=True)
class Film:
    title: str
    slug: str
    genre: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A product: films that are sold together, at a price level."""

    code: str
    name: str
    films: tuple[str, ...]
    level: str


@dataclass(frozen=True, slots=True)
class Viewer:
    """A customer's whole story. ``trouble_month`` is when their card begins to make trouble
    (``trouble`` the kind of test method), ``leaves_month`` when they cancel and how."""

    number: int
    name: str
    currency: str
    timezone: str
    locale: str
    country: str
    buys_at: datetime
    bundle: str
    by_page: bool
    discount: str | None
    trouble: str | None
    trouble_month: int
    leaves: str | None
    leaves_month: int
    card: str = CARD

    @property
    def external_id(self) -> str:
        return f"viewer-{self.number:03d}"


def films() -> list[Film]:
    """240 real films (facts from the vega-datasets movies data, BSD-3-Clause)."""
    text = files("subledger.hosts.demo").joinpath("films.csv").read_text(encoding="utf-8")
    found, slugs = [], set()
    for row in csv.DictReader(text.splitlines()):
        slug = re.sub(r"[^a-z0-9]+", "-", row["title"].lower()).strip("-") or "film"
        slug = f"film:{slug}"
        if slug in slugs:
            slug = f"{slug}-{row['released_on'][:4]}"
        slugs.add(slug)
        found.append(Film(row["title"], slug, row["genre"]))
    return found


def bundles(catalogue: list[Film]) -> list[Bundle]:
    """A bundle for each genre, three genres together, and everything."""
    genres = list(dict.fromkeys(film.genre for film in catalogue))
    by_genre = {
        genre: tuple(film.slug for film in catalogue if film.genre == genre) for genre in genres
    }
    made = [Bundle(_code(genre), f"{genre} films", by_genre[genre], "one") for genre in genres]
    evening = genres[:3]
    made.append(
        Bundle(
            "evening", "Three genres for the evening",
            tuple(slug for genre in evening for slug in by_genre[genre]), "three",
        )
    )  # fmt: skip
    made.append(
        Bundle("everything", "The whole cinema", tuple(film.slug for film in catalogue), "all")
    )
    return made


def film_of(viewer: Viewer) -> str:
    """A film that the viewer has bought."""
    return next(each for each in bundles(films()) if each.code == viewer.bundle).films[0]


def _code(genre: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", genre.lower()).strip("-")


def viewers(seed: int, offered: list[Bundle]) -> list[Viewer]:
    """The customers of a seed, in the order in which they buy."""
    draw = random.Random(seed)
    made = []
    for number in range(1, CUSTOMERS + 1):
        currency, timezone, locale, country = MARKETS[(number - 1) % len(MARKETS)]
        trouble = draw.choices(
            [None, "insufficient_funds:2", "insufficient_funds:3", "soft_decline", "hard_decline",
             "timeout"],
            [80, 6, 5, 3, 3, 3],
        )[0]  # fmt: skip
        made.append(
            Viewer(
                number=number,
                name=f"{draw.choice(_FIRST)} {draw.choice(_LAST)}",
                currency=currency,
                timezone=timezone,
                locale=locale,
                country=country,
                buys_at=START + timedelta(days=draw.randrange(BUYING_DAYS)),
                bundle=draw.choice(offered).code,
                by_page=draw.random() < 0.12,
                discount=draw.choices([None, "welcome", "friends"], [75, 15, 10])[0],
                trouble=trouble,
                trouble_month=draw.randrange(1, MONTHS - 1),
                leaves=draw.choices([None, "period_end", "now"], [82, 13, 5])[0],
                leaves_month=draw.randrange(1, MONTHS),
            )
        )
    return sorted(map(_cast, made), key=lambda viewer: (viewer.buys_at, viewer.number))


def _cast(viewer: Viewer) -> Viewer:
    """Those who act in what goes wrong have no other story; and whose renewals the provider is
    dead for have good cards that day."""
    if viewer.number in {SECURE, DISPUTES, REFUNDED}:
        viewer = replace(viewer, discount=None, trouble=None, leaves=None)
    if viewer.number == SECURE:
        later = START + timedelta(days=1)
        viewer = replace(viewer, buys_at=later, by_page=True, card=SECURE_CARD)
    if viewer.buys_at == START:
        viewer = replace(viewer, trouble_month=max(viewer.trouble_month, 2))
    return viewer
