"""`labkit race`: the same race, its JSON on the last line, clear words and an exit status for what cannot run."""
import json

import pytest

from labkit.cli import main
from labkit.trace import read

QUICK = ["race", "static", "chunked", "--requests", "6", "--rate", "40", "--output-tokens", "2-9"]


@pytest.fixture
def clock(cost, tmp_path) -> list[str]:
    cost.save(tmp_path / "cost.json")
    return ["--clock", str(tmp_path / "cost.json")]


def test_it_prints_a_table_and_one_json_object_and_writes_what_is_asked_for(clock, tmp_path, capsys):
    files = [tmp_path / "race.png", tmp_path / "ledger.png", tmp_path / "runs"]
    options = ["--out", str(files[0]), "--ledger", str(files[1]), "--runs", str(files[2]), "--batch-size", "3", "--json"]
    assert main([*QUICK, *clock, *options]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out.splitlines()[-1])
    assert told["badge"] == "stand-in" and set(told["measures"]) == {"static", "chunked"} and "tokens/s" in err
    assert told["configuration"]["static"]["policy_parameters"] == {"batch_size": 3}
    assert files[0].read_bytes().startswith(b"\x89PNG") and files[1].read_bytes().startswith(b"\x89PNG")
    assert read(files[2] / "static.jsonl").header.badge == "stand-in"


def test_without_json_the_table_goes_to_the_output(clock, capsys):
    assert main([*QUICK, *clock]) == 0
    assert "static" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "said"), [
    (["--num-blocks", "5"], "raise num_blocks to"), (["--rate", "0"], "rate is 0"), (["--max-num-batched-tokens", "3"], "max-num-seqs"),
    (["--clock", "sundial"], "no file sundial"), (["--model", "huge"], "no model 'huge'")])
def test_what_cannot_run_is_said_in_words_and_in_the_exit_status(options, said, clock, capsys):
    assert main([*QUICK, *clock, "--json", *options]) == 1
    out, err = capsys.readouterr()
    assert said in err and said in json.loads(out.splitlines()[-1])["error"]


def test_a_policy_of_ones_own_is_named_by_its_module_and_a_broken_law_is_a_failure(clock, capsys, tmp_path, monkeypatch):
    (tmp_path / "my_policies.py").write_text(
        "from labkit.glassbox.plan import Plan\nfrom labkit.glassbox.scheduler import Scheduler\n"
        "class Idle(Scheduler):\n    def schedule(self, now):\n        return Plan()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["race", "my_policies:Idle", "chunked", "--requests", "3", *clock]) == 1
    assert "progress" in capsys.readouterr().out
