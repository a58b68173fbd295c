"""`labkit bench batches`: every way answers every prompt, and the result says on what."""
from __future__ import annotations

import json

import pytest

from labkit.bench import batches


@pytest.mark.parametrize("shape", ["tiny", "50M"])
def test_every_way_is_measured_at_every_size(shape, tmp_path, capsys):
    argv = ["--shape", shape, "--batches", "1", "3", "--prompt", "5", "--output-tokens", "3", "--pairs", "2", "--json"]
    assert batches.main([*argv, "--output", str(tmp_path / "batches.json")]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((tmp_path / "batches.json").read_text()) == result
    assert [row["batch"] for row in result["rows"]] == [1, 3]
    for row in result["rows"]:
        assert set(row["runs"]) == {*batches.WAYS, "transformers"}
        assert all(len(runs) == 2 and min(runs) > 0 for runs in row["runs"].values())
        assert row["ratio"] == pytest.approx(row["tokens_per_s"]["glassbox"] / row["tokens_per_s"]["transformers"], abs=1e-3)


def test_all_ways_give_the_same_number_of_tokens():
    from labkit.models import folder

    setting = batches.Setting("tiny", [2, 4], prompt=6, output=5)
    runs, dtype, device = batches.ways(setting, folder("tiny"))
    assert (dtype, device) == ("float32", "cpu")
    assert {name: [run(setting.draw(batch)) for batch in setting.batches] for name, run in runs.items()} == dict.fromkeys(runs, [10, 20])
