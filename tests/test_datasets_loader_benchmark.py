"""The loader benchmark counts what was delivered and reports every case."""

import pytest
from toy_collection import write_collection

from sa0lib.datasets import Collection
from sa0lib.datasets.shards import write_shards
from tests.benchmarks import loader


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    base = tmp_path_factory.mktemp("benchmark")
    world = write_collection(base / "world", 4, 5)
    return {"folder": world, "shards": write_shards(Collection(world, "train"), base / "shards", 2)}


@pytest.mark.parametrize("source", ["folder", "shards"])
def test_a_case_is_two_passes_over_all_sequences(roots, source):
    row = loader.case(source, roots[source], batch_size=2, workers=0)
    assert 4 * 2 * 2 <= row["delivered_frames"] <= 4 * 2 * 5  # four sequences, two passes, two to five frames a sample
    assert len(row["frames_per_second"]) == 2 and all(speed > 0 for speed in row["frames_per_second"])
    assert row["startup_seconds"] > 0 and row["peak_worker_mib"] is None


def test_the_report_has_a_line_for_each_case_and_each_folder(roots):
    cases = [loader.case(source, root, 2, 0) for source, root in roots.items()]
    disk = {source: {"files": 3, "mib": 0.1, "written_in_seconds": 1.0} for source in roots}
    lines = loader.report({"cases": cases, "on_disk": disk}).splitlines()
    assert [line.split()[0] for line in lines] == ["start", "source", "folder", "shards", "folder:", "shards:"]


def test_the_full_plan_reads_twenty_thousand_frames():
    plan = loader.Plan()
    assert plan.sequences * plan.frames == 20_000 and plan.workers == (1, 2)
