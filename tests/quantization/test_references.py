"""The lab's methods beside public implementations, which run in an environment of their own (`labkit install references`)."""

from __future__ import annotations

import platform
from typing import Any

import pytest

from labkit.bench.references import EXPORTS, GRIDS, MODEL_METHODS, compare, weights

pytestmark = pytest.mark.skipif(
    not (platform.system() == "Linux" and platform.machine() == "x86_64"), reason="the reference quantizers are locked for x86-64 Linux"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    """All comparisons."""
    return compare(tmp_path_factory.mktemp("references"))


def test_nf4_is_bitsandbytes_bit_for_bit(found):
    assert len(found["nf4"]) == 2 * len(weights())
    for name, parts in found["nf4"].items():
        assert set(parts) >= {"codes", "absmax", "values"}, name
        assert ("offset" in parts) == ("double" in name)
        assert all(parts.values()), (name, parts)


def test_fp8_is_torchs_cast(found):
    assert all(parts["weights"] > 300_000 and parts["differ"] == 0 for parts in found["fp8"].values())


@pytest.mark.parametrize("name", weights())
def test_int8_is_torchaos(found, name):
    parts = found["int8"][name]
    assert parts["scales"] and parts["values"]
    assert parts["most"] <= 1 and parts["differ"] == parts["ties"]


def test_llm_int8_is_bitsandbytes_in_codes_outliers_and_product(found):
    parts = found["llm_int8"]
    assert parts["codes"] and parts["absmax"] and parts["outlier_columns"] >= 3
    assert parts["tame_product_off"] < 1e-4
    assert parts["error"] <= 1.001 * parts["their_error"]


def test_gptq_on_the_same_second_moment_loses_no_more_than_llm_compressor(found):
    assert len(found["gptq_layer"]) == len(GRIDS)
    for name, lost in found["gptq_layer"].items():
        assert lost["ours"] <= 1.005 * lost["theirs"], name
        assert lost["theirs"] < 0.9 * lost["rtn"], name  # the reference itself does its work


@pytest.mark.parametrize("name", MODEL_METHODS)
def test_models_calibrated_on_the_same_text_lose_no_more_than_llm_compressors(found, name):
    lost = found["models"][name]
    assert lost["ours"] <= 1.01 * lost["theirs"]
    assert lost["theirs"] < lost["rtn"]


@pytest.mark.parametrize("name", EXPORTS)
def test_transformers_loads_compressed_tensors_checkpoints_as_the_lab_does(found, name):
    off = found["exports"][name]
    if name == "smoothquant":
        assert off["relative"] < 0.05
    else:
        assert off["most"] < 1e-3
