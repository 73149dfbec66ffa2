from __future__ import annotations

from benchmarks.partition import SHARED, Case, cases, compared, partitioned


def test_an_order_is_made_for_one_number_of_workers_or_for_all() -> None:
    network, workers = "radixnet:256x12", (4, 15, 16)
    named = partitioned(Case(network, "overlap", workers))
    shared = partitioned(Case(network, SHARED, workers))
    assert [row["workers"] for row in named] == [row["workers"] for row in shared] == [4, 15, 16]
    assert named[2]["halo_rows"] < shared[2]["halo_rows"]
    assert len({row["seconds"] for row in shared}) == 1


def test_halo_and_time_are_set_against_kahypars() -> None:
    row = {"network": "n", "workers": 8, "halo_rows": 100, "cpu_s": 4.0}
    rows = [
        {**row, "partitioner": "hypergraph"},
        {**row, "partitioner": "overlap", "halo_rows": 98, "cpu_s": 0.1},
        {**row, "partitioner": "overlap", "workers": 16},
    ]
    found = [(each["ratio_to_kahypar"], each["cpu_to_kahypar"]) for each in compared(rows)]
    assert found == [(1, 1), (0.98, 0.025), (None, None)]


def test_the_time_of_one_order_for_all_is_set_against_kahypars_for_all() -> None:
    row = {"network": "n", "halo_rows": 100}
    rows = [
        {**row, "partitioner": "hypergraph", "workers": 8, "cpu_s": 4.0},
        {**row, "partitioner": "hypergraph", "workers": 16, "cpu_s": 6.0},
        {**row, "partitioner": SHARED, "workers": 8, "cpu_s": 0.1},
        {**row, "partitioner": SHARED, "workers": 16, "cpu_s": 0.1},
    ]
    assert [each["cpu_to_kahypar"] for each in compared(rows)[2:]] == [0.01, 0.01]


def test_every_partitioner_is_run_on_the_official_network() -> None:
    run = {case.partitioner for case in cases([8], quick=False) if case.network == "radixnet:1024x120"}
    assert run == {"overlap", SHARED, "hypergraph", "blocks", "random"}
