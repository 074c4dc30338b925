"""The sample API's users, in the shape of jsonplaceholder's, all of them invented."""

from typing import Any

from infra.sample.flaws import Ledger

DIRTY_USER_ID = 7
"""The user whose e-mail address the contract refuses."""

_PEOPLE = (
    # name, username, mail domain, street, suite, city, zip code, latitude, longitude
    ("Marta Lindholm", "MartaL", "example.org", "Kelp Lane", "Apt. 12", "Port Merrow",
     "40213-1177", "57.7089", "11.9746"),
    ("Oskar Brandvold", "obrand", "example.net", "Juniper Row", "Suite 3", "Vestersund",
     "10988", "-23.5505", "-46.6333"),
    ("Inês Caldeira", "ines.c", "example.com", "Cooper Steps", "Flat 9", "Almarinha",
     "22010-4410", "38.7223", "-9.1393"),
    ("Tobias Wren", "twren", "example.org", "Mill Pond Road", "Suite 481", "Northwick",
     "55871", "53.4084", "-2.9916"),
    ("Adaeze Obi", "Adaeze.Obi", "example.net", "Baobab Close", "Apt. 2", "New Calabash",
     "90021-0303", "6.5244", "3.3792"),
    ("Kenji Morikawa", "kenji_m", "example.com", "Paper Crane Street", "Unit 77", "Higashida",
     "60711", "35.0116", "135.7681"),
    ("Tomas Hedlund", "thedlund", "example.org", "Harbour Stairs", "Suite 15", "Klintvik",
     "31450", "59.3293", "18.0686"),
    ("Saoirse Fallon", "s.fallon", "example.net", "Turf Bank", "Apt. 556", "Ballyrush",
     "78002-9166", "53.2707", "-9.0568"),
    ("Renaud Castelin", "Renaud_C", "example.com", "Rue des Tilleuls", "Suite 20", "Saint-Orme",
     "14590", "45.7640", "4.8357"),
    ("Leyla Aksoy", "Leyla.Aksoy", "example.org", "Fig Tree Avenue", "Unit 8", "Denizköy",
     "35220-0007", "-41.2865", "174.7762"),
)  # fmt: skip
_COMPANIES = (
    ("Lindholm Tide Works", "Down-to-earth seaside logistics", "ship patient parcels"),
    ("Brandvold and Daughters", "Many-handed woodland craft", "carve durable relations"),
    ("Caldeira Cork", "Lightweight lasting closure", "seal sustainable bottles"),
    ("Wren Weaving", "Close-knit northern texture", "spin honest yarns"),
    ("Obi Orchard Group", "Sun-ripened local supply", "grow seasonal baskets"),
    ("Morikawa Paper", "Foldable quiet precision", "crease elegant outcomes"),
    ("Hedlund Lanterns", "Wind-proof steady brightness", "light late crossings"),
    ("Fallon Peat Kilns", "Slow-fired solid warmth", "bake reliable bricks"),
    ("Castelin Clocks", "Finely-tuned daily rhythm", "wind precise mornings"),
    ("Aksoy Figs", "Hand-picked southern sweetness", "dry generous harvests"),
)

USERS_LEDGER = Ledger(read=len(_PEOPLE), inserted=len(_PEOPLE) - 1, quarantined=1)
"""What a first load of the users must count."""


def make_users() -> list[dict[str, Any]]:
    """Return the users as the API answers them: nested, coordinates as text."""
    users = []
    for number, (person, company) in enumerate(zip(_PEOPLE, _COMPANIES, strict=True), start=1):
        name, username, domain, street, suite, city, zipcode, lat, lng = person
        at = " (at) " if number == DIRTY_USER_ID else "@"
        users.append(
            {
                "id": number,
                "name": name,
                "username": username,
                "email": f"{username}{at}{domain}",
                "address": {
                    "street": street,
                    "suite": suite,
                    "city": city,
                    "zipcode": zipcode,
                    "geo": {"lat": lat, "lng": lng},
                },
                "phone": f"1-555-01{number:02}-44{number:02} x{number * 37}",
                "website": f"{username.lower().strip('._')}.{domain}",
                "company": {"name": company[0], "catchPhrase": company[1], "bs": company[2]},
            }
        )
    return users
