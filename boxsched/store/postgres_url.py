"""URLs of PostgreSQL databases: what they say, without ever telling the password."""

import psycopg2
from psycopg2.extensions import parse_dsn

from boxsched.errors import Invalid


def parsed(url: str) -> dict[str, str]:
    """libpq's parameters; raises Invalid, which holds nothing of the URL, where it is none."""
    try:
        return parse_dsn(url)
    except psycopg2.ProgrammingError:  # its words hold pieces of the URL
        raise Invalid(
            "not a URL of a PostgreSQL database (is there a letter in the password that must be "
            "percent-encoded?): postgresql://USER:PASSWORD@HOST:PORT/NAME",
            "database",
        ) from None


def shown(url: str) -> str:
    """The URL for people: without the password."""
    given = parsed(url)
    user = f"{given['user']}@" if "user" in given else ""
    host = given.get("host", given.get("hostaddr", ""))
    port = f":{given['port']}" if "port" in given else ""
    service = f"?service={given['service']}" if "service" in given else ""
    return f"postgresql://{user}{host}{port}/{given.get('dbname', '')}{service}"
