"""Training, on a net so small that a step takes milliseconds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from labkit.models.batches import batch, length_of, positions
from labkit.models.net import Net
from labkit.models.shapes import Shape
from labkit.models.text.corpus import document
from labkit.models.tokenizer import train_tokenizer
from labkit.models.training import Lesson, Recipe, Training, export

SHAPE = Shape(384, 32, 2, 4, 2, 8, 48, 128)


@pytest.fixture(autouse=True)
def one_thread():
    """So small a net is slower on several threads, and much slower where another process holds one of the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([document(seed).text for seed in range(100)], SHAPE.vocab_size)


@pytest.fixture
def recipe():
    return Recipe(
        tokens=4096,
        batch_tokens=512,
        lessons=(Lesson(("echo",), 0, 1024, 16), Lesson(("drill", "echo"), 1536, 2560, 16)),
        warmup_steps=2,
        bfloat16=False,
    )


def test_the_net_gives_the_logits_of_transformers_llama(tokenizer, tmp_path):
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    net = Net(SHAPE)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
        weight.data = weight.data.bfloat16().float()
    export(net, tokenizer, tmp_path)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.randint(0, SHAPE.vocab_size, (2, 100))
    with torch.inference_mode():
        ours = net(ids, torch.arange(100).expand(2, -1))
        torch.testing.assert_close(ours, theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(recipe, tokenizer, tmp_path):
    whole = Training(SHAPE, recipe, tokenizer, tmp_path / "whole")
    whole.run()

    stopped = Training(SHAPE, recipe, tokenizer, tmp_path / "parts")

    def stop_after_three(figures: dict) -> None:
        if figures["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop_after_three)
    resumed = Training(SHAPE, recipe, tokenizer, tmp_path / "parts")
    assert resumed.step == 3
    resumed.run()
    assert resumed.done == whole.done == recipe.tokens
    for name, weight in whole.net.state_dict().items():
        assert torch.equal(weight, resumed.net.state_dict()[name]), name


def test_training_lowers_the_loss(recipe, tokenizer, tmp_path):
    losses = []
    Training(SHAPE, replace(recipe, tokens=64 * 512), tokenizer, tmp_path).run(lambda figures: losses.append(figures["loss"]))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_learning_rate_warms_up_stays_and_decays_to_nothing(recipe):
    recipe = replace(recipe, tokens=1000, lessons=(Lesson(("echo",), 0, 100, 16),), warmup_steps=4, plateau=0.5, decay_share=0.2)
    assert [recipe.rate(0, step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [recipe.rate(done, 100) for done in (99, 100, 800, 900, 1000)] == pytest.approx([1.0, 0.5, 0.5, 0.25, 0.0])


def test_a_batch_depends_on_seed_and_step_alone(tokenizer):
    one, same, other = (batch(tokenizer, 0, step, 512, 64, 128) for step in (5, 5, 6))
    assert torch.equal(one.ids, same.ids) and torch.equal(one.positions, same.positions)
    assert one.ids.shape == (8, 65) and one.positions.shape == (8, 64)
    assert not torch.equal(one.ids, other.ids)


def test_the_first_lessons_are_short_lists_copied_again_and_again(recipe, tokenizer, tmp_path):
    training = Training(SHAPE, replace(recipe, tokens=3072), tokenizer, tmp_path)
    lengths: list[int] = []
    training.run(lambda figures: lengths.append(figures["length"]))
    assert lengths == [16, 32, 128, 16, 32, 128]
    kinds = [lesson and lesson.kinds for lesson in map(recipe.lesson, (0, 1023, 1024, 1536, 2560))]
    assert kinds == [("echo",), ("echo",), None, ("drill", "echo"), None]
    first, *others = document(0, 32, "echo").text.splitlines()
    assert others == [first.replace("Copy", "Copied")] * 4


def test_positions_ascend_within_the_context_and_some_rows_reach_far():
    rows = [positions(str(seed), 64, 512) for seed in range(200)]
    assert all(len(row) == 64 and row == sorted(set(row)) and 0 <= row[0] and row[-1] < 512 for row in rows)
    assert any(row[-1] > 400 for row in rows) and any(row == list(range(64)) for row in rows)


def test_rows_are_short_at_first_and_fill_the_context_later():
    assert {length_of(0, step, 0.1, 2048) for step in range(50)} == {256}
    assert max(length_of(0, step, 0.9, 2048) for step in range(50)) == 2048


def test_the_command_trains_saves_a_folder_that_transformers_loads_and_goes_on_where_it_stopped(tmp_path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from labkit.models import folder
    from labkit.models.train import main

    assert main(["--out", str(tmp_path), "--tokens", "2048", "--float32", "--json"]) == 0
    assert main(["--out", str(tmp_path), "--tokens", "4096", "--float32", "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert 2048 <= first["tokens"] < 4096 <= second["tokens"] and second["step"] > first["step"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.decode(model.generate(**tokenizer("Once", return_tensors="pt"), max_new_tokens=3)[0]).startswith("<|begin|>Once")
