"""What waits for what."""

from hypothesis import given
from hypothesis import strategies as st

from infra.endpoints import Endpoint
from schemas.datasets import DATASETS
from tasks.jobs import Job, make_queues

SPECS = {each.spec.table: each.spec for each in DATASETS}


def job(table: str, number: int = 0) -> Job:
    endpoint = Endpoint(url=f"http://127.0.0.1/{table}/{number}", dataset=table)
    return Job(table, SPECS.get(table), endpoint)


def test_a_fact_waits_for_the_dimensions_of_the_same_run_and_for_nothing_else() -> None:
    queues = make_queues([job("sales_data"), job("other"), job("customers"), job("api_users")])
    assert {each.table: each.after for each in queues} == {
        "sales_data": ["customers"],
        "other": [],
        "customers": [],
        "api_users": [],
    }


def test_nothing_waits_for_a_dataset_that_the_run_does_not_load() -> None:
    [queue] = make_queues([job("sales_data")])
    assert queue.after == []


def test_a_run_without_sources_has_no_queues() -> None:
    assert make_queues([]) == []


@given(st.lists(st.sampled_from(["sales_data", "customers", "products", "other", "api_users"])))
def test_every_job_is_queued_once_in_order_and_behind_what_it_waits_for(tables) -> None:
    jobs = [job(table, number) for number, table in enumerate(tables)]
    queues = make_queues(jobs)
    assert sorted(each.table for each in queues) == sorted(set(tables))
    for queue in queues:
        assert queue.jobs == [each for each in jobs if each.table == queue.table]
    places = {queue.table: place for place, queue in enumerate(queues)}
    for queue in queues:
        # A queue is started with those it waits for already running.
        assert all(places[each] < places[queue.table] for each in queue.after)


def test_a_job_is_called_by_its_file_or_by_its_address_without_secrets() -> None:
    secret = Endpoint(url="http://127.0.0.1/users?key=hidden-key", dataset="api_users")
    assert Job("api_users", None, secret).name == "http://127.0.0.1/users"
