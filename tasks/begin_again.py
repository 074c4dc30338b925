"""Makes a group read its topic from another place, on a person's word."""

from infra.settings import Settings
from tasks.database import open_pool
from tasks.offsets import Reader, begin_again
from tasks.topic_ends import read_topic_ends


async def begin_topic_again(settings: Settings, where: str) -> str:
    """Leave the group's offsets at the topic's `earliest` or `latest`; returns a sentence on it.

    Consumers that run are fenced, and read on from there. What was loaded stays, and messages
    that are read again double nothing in datasets with a key.
    """
    reader = Reader(settings.kafka_group, settings.kafka_topic, "begin-again")
    offsets = await read_topic_ends(settings, where)
    async with await open_pool(settings) as pool, pool.acquire() as connection:
        await begin_again(connection, reader, offsets)
    shown = ", ".join(f"{partition} at {offset}" for partition, offset in sorted(offsets.items()))
    return f"The group {reader.group} begins {reader.topic} again, by partition: {shown}."
