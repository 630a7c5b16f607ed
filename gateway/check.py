"""`python -m gateway.check`: what a gateway needs, checked for `easel doctor`."""

import asyncio

import psycopg

from easel.checks import check_exporters, check_nats, check_storage, in_order
from easel.environment import lookup
from easel.finding import Finding, Verdict, report
from gateway.errors import DatabaseUnavailable
from gateway.record import schema
from gateway.record.database import CONNECT_TIMEOUT_SECONDS
from gateway.settings import GatewaySettings

LEAST_POSTGRESQL = 18


async def check(settings: GatewaySettings) -> list[Finding]:
    """Check the database, NATS, the storage, and where traces and errors go, all at the same time."""
    return in_order(
        await asyncio.gather(
            asyncio.to_thread(check_database, settings),
            check_nats(settings, with_streams=True),
            check_storage(settings),
            check_exporters(settings),
        )
    )


def check_database(settings: GatewaySettings) -> list[Finding]:
    """Check that PostgreSQL answers, is new enough, and has our schema."""
    url = settings.database_url.get_secret_value()
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            version = connection.info.server_version // 10_000
            place = f"{connection.info.host}:{connection.info.port}, version {version}"
        current = schema.is_current(url)
    except (psycopg.Error, DatabaseUnavailable) as error:
        why = str(error.__cause__ or error).strip().splitlines()[0]
        return [Finding("PostgreSQL", Verdict.FAIL, why, "EASEL_DATABASE_URL says where it is, and who we are")]
    if version < LEAST_POSTGRESQL:
        return [Finding("PostgreSQL", Verdict.FAIL, place, f"version {LEAST_POSTGRESQL} or later is needed")]
    answers = Finding("PostgreSQL", Verdict.OK, place)
    if not current:
        return [
            answers,
            Finding("schema", Verdict.FAIL, "it is missing or old", "`easel migrate` brings it up to date"),
        ]
    return [answers, Finding("schema", Verdict.OK, "current")]


def main() -> None:
    """Print the findings; settings that are wrong end it with status 2 and a line for each."""
    if not lookup("EASEL_DATABASE_URL"):
        unset = "EASEL_DATABASE_URL is not set, so no gateway is meant to run here"
        report([Finding("settings", Verdict.SKIP, unset, "`easel up` sets everything by itself")])
        return
    settings = GatewaySettings.read()
    report([Finding("settings", Verdict.OK, "they can be read")])
    report(asyncio.run(check(settings)))


if __name__ == "__main__":
    main()
