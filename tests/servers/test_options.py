"""Settings from Python and words from the command line are one thing."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.servers.driver import ServerError, canonical, options, words

names = st.from_regex(r"[a-z][a-z0-9]{0,6}(_[a-z0-9]{1,6}){0,2}", fullmatch=True).filter(lambda name: not name.startswith("no_"))
values = st.one_of(st.booleans(), st.integers(), st.text("abcXYZ./{}:\" ", min_size=1).filter(lambda text: not text.startswith("-")),
                   st.lists(st.integers(), min_size=2, max_size=4))


@given(st.dictionaries(names, values, max_size=6), st.randoms())
def test_the_order_of_settings_does_not_matter_and_words_hold_them_all(settings, random):
    shuffled = list(settings.items())
    random.shuffle(shuffled)
    assert words(dict(shuffled)) == words(settings)
    expected = {name: value if isinstance(value, bool) else [str(v) for v in value] if isinstance(value, list) else str(value)
                for name, value in settings.items()}
    assert options(words(settings)) == expected
    assert canonical(words(settings)) == words(settings)


def test_the_forms_that_servers_know():
    assert words({"block_size": 32}) == ["--block-size", "32"]
    assert words({"enforce_eager": True}) == ["--enforce-eager"]
    assert words({"enable_prefix_caching": False}) == ["--no-enable-prefix-caching"]
    assert words({"seed": None}) == []
    assert words({"generation_config": {"b": 1, "a": 2}}) == ["--generation-config", '{"a": 2, "b": 1}']
    assert canonical(["--max-num-seqs=8", "--block-size", "32"]) == words({"block_size": 32, "max_num_seqs": 8})
    assert options(["--threshold", "-1"]) == {"threshold": "-1"}


def test_a_word_that_belongs_to_no_option_is_refused():
    with pytest.raises(ServerError, match="'32' is no option"):
        canonical(["32", "--block-size"])
