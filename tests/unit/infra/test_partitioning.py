"""A key's partition is the one that Kafka's other clients send it to."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka.partitioning import find_partitions


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(min_value=1, max_value=100))
def test_every_key_goes_where_the_default_partitioner_sends_it(
    keys: list[bytes], count: int
) -> None:
    every = list(range(count))
    expected = [DefaultPartitioner()(key, every, every) for key in keys]
    assert find_partitions(keys, count) == expected
