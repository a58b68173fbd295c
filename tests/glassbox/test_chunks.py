"""What goes from the engine to a client at every step: cheap, and the same as the long way round."""
from __future__ import annotations

import json
import pickle

import pytest

from labkit.glassbox.outputs import RequestOutput
from labkit.glassbox.protocol import ChunkTemplate, choice
from labkit.glassbox.refusal import Refusal

HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": 'a "model" []'}


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("text", ["", " word", 'quoted " and \\ back', "line\nend\t\x00", "é 漢 🙂", "[]", "\u2028"])
def test_a_filled_template_is_the_chunk_that_json_makes(chat, ids, text):
    output = RequestOutput("x-3", [5, 70] if text else [5], text)
    expected = {**HEAD, "choices": [choice(chat, True, 3, output, ids)]}
    assert json.loads(ChunkTemplate(HEAD, chat, 3, ids).fill(output)) == expected


def test_an_output_is_the_same_on_the_other_side_of_a_process():
    output = RequestOutput("a", [1, 2], "x", "stop", 2, 40, 16, 1, 0.5, 0.6, 0.7, Refusal("full", 2))
    assert pickle.loads(pickle.dumps(output)) == output
