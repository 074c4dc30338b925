"""Code that the loader leaves in staging, where tables are its own, for others to come across.

What looks into those tables with more rights than the loader's would hand them over.
"""

from dataclasses import dataclass

import asyncpg

from tests.security.claim import Claim, FoiledError
from tests.security.session import undone


@dataclass(frozen=True, slots=True)
class Planting:
    """What the loader leaves in staging, and the search for a person that comes across it."""

    owner: asyncpg.Connection
    planted: str
    search: str


_PLANT = """
    CREATE TABLE staging.ran (who text);
    CREATE FUNCTION staging.run_planted() RETURNS text LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO staging.ran VALUES (current_user); RETURN 'x'; END $$;
    CREATE FUNCTION staging.run_planted_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO staging.ran VALUES (current_user); RETURN OLD; END $$;
    WITH run AS (
        INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('planting') RETURNING id
    )
    INSERT INTO metadata.source_files (execution_id, load_id, dataset, path, status, contracted)
    SELECT id, gen_random_uuid(), 'trap', '/trap', 'LOADED', false FROM run;
"""
_PLANTED = {
    "view": "CREATE VIEW staging.trap AS SELECT staging.run_planted() AS line",
    "trigger": """
        CREATE TABLE staging.trap AS SELECT 'x'::text AS line;
        CREATE TRIGGER planted BEFORE DELETE ON staging.trap
            FOR EACH ROW EXECUTE FUNCTION staging.run_planted_trigger()
    """,
}
_CARELESS_SEARCH = """
    CREATE FUNCTION metadata.search_carelessly() RETURNS bigint LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE found bigint;
    BEGIN
        SELECT count(*) INTO found FROM staging.trap WHERE line ~ 'x';
        IF (SELECT relkind = 'r' FROM pg_class WHERE oid = 'staging.trap'::regclass) THEN
            DELETE FROM staging.trap;
        END IF;
        RETURN found;
    END
    $$;
    GRANT EXECUTE ON FUNCTION metadata.search_carelessly TO sluiceway_loader;
"""
"""The same, with the owner's rights."""


async def plant(planting: Planting) -> str:
    """Return as whom code of the loader's runs when a person is looked for."""
    owner = planting.owner
    async with undone(owner):
        await owner.execute(_CARELESS_SEARCH)
        await owner.execute("SET LOCAL ROLE sluiceway_loader")
        await owner.execute(_PLANT + planting.planted)
        try:
            await owner.execute(planting.search)
        except asyncpg.InsufficientPrivilegeError as error:
            raise FoiledError(f"the planted code did not run: {error}") from error
        ran_as = await owner.fetch("SELECT DISTINCT who FROM staging.ran WHERE who <> current_user")
    if ran_as:
        return f"the loader's code ran as {ran_as[0]['who']}"
    raise FoiledError("whatever ran of it ran as the loader alone")


CLAIMS = tuple(
    Claim(
        f"loader-plants-a-{kind}",
        f"the loader leaves a {kind} in staging and has a person searched for there",
        plant,
        lambda stage, planted=planted, is_table=kind == "trigger": Planting(
            stage[""], planted, f"SELECT metadata.find_uncontracted('x', {is_table})"
        ),
        lambda stage, planted=planted: Planting(
            stage[""], planted, "SELECT metadata.search_carelessly()"
        ),
    )
    for kind, planted in _PLANTED.items()
)
