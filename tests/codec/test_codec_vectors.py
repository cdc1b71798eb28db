"""Payloads as they were first written: encoded to the same bytes, read and applied for ever."""

from __future__ import annotations

import json

import pytest
from tests.codec.codec_world import decoded
from tests.codec.frozen import CODECS, LAYOUT, VECTORS, freeze

from ringfence.core.terms import Codec


@pytest.mark.parametrize("codec", CODECS)
def test_the_frozen_update_becomes_the_frozen_bytes(codec: Codec) -> None:
    # given what was frozen
    payload = (VECTORS / f"{codec}.safetensors").read_bytes()
    digests = json.loads((VECTORS / "digests.json").read_text())[codec]

    # when the same update is encoded and applied today
    today = freeze(codec)

    # then nothing has changed
    assert today.payload == payload
    assert today.digests == digests


def test_frozen_values_are_decoded_alike_by_both_codecs() -> None:
    # given the frozen payloads of one update
    exact_P, rounded_P = (
        decoded(codec, LAYOUT, (VECTORS / f"{codec}.safetensors").read_bytes()) for codec in CODECS
    )

    # when both are decoded, then they differ by less than one step of 1/127
    assert abs(exact_P - rounded_P).max() < 0.75 / 127
    assert not rounded_P[-256:].any()
