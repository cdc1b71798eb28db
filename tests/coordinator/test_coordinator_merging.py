"""What a merge gives, against an independent calculation in float64; and what an audit finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tests.places.founding import Founded, Template
from tests.places.world import WORLD, World, opened

from ringfence.cli.auditing import verify_home
from ringfence.coordinator.rounds import advance
from ringfence.core.errors import Error, LogError
from ringfence.core.tensorfile import open_tensorfile
from ringfence.core.terms import Codecs, Outer, Terms

EXAMPLES = {"cn": 300, "de": 100, "us": 70}


def _values(world: World, model: str) -> dict[str, np.ndarray]:
    """A model's tensors, read by their names."""
    layout = world.agreement.model_layout
    found = {}
    with open_tensorfile(world.hub.spool.model(model)) as file:
        for spec, start in zip(layout.specs, layout.starts, strict=True):
            flat = np.empty(spec.elements, np.float32)
            file.read_into(start, flat)
            found[spec.name] = flat.astype(np.float64)
    return found


def _flat(world: World, values: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([values[spec.name] for spec in world.agreement.update_layout.specs])


def _send_different(world: World, scale: float = 1.0) -> None:
    for name, examples in EXAMPLES.items():
        place = world.place(name)
        place.script.examples = examples
        place.script.update = place.script.update * np.float32(scale)


def _mean(world: World) -> np.ndarray:
    """The weighted mean of what the sites handed over, clipped, in float64."""
    total = sum(EXAMPLES.values())
    mean = np.zeros(world.agreement.update_layout.elements)
    for name, examples in EXAMPLES.items():
        update = world.place(name).script.update.astype(np.float64)
        bound = world.agreement.terms.clip_l2
        update *= min(1.0, bound / np.linalg.norm(update))
        mean += update * (examples / total)
    return mean


def _with(
    founded: Founded, path: Path, *, outer: Outer | None = None, codecs: Codecs | None = None
) -> Template:
    def change(terms: Terms) -> Terms:
        first, *others = terms.lineages
        first = replace(first, outer=outer or first.outer)
        return replace(terms, lineages=(first, *others), codecs=codecs or terms.codecs)

    return founded.agree(path, change)


def _release(world: World, round_: int) -> str:
    world.run_to(WORLD, round_, "released")
    release = world.hub.journal.release(WORLD)
    assert release is not None
    assert release.round == round_
    return release.model


@pytest.mark.parametrize("scale", [1.0, 1e4], ids=["short updates", "clipped updates"])
def test_a_release_is_its_base_and_the_weighted_mean(world: World, scale: float) -> None:
    # given three updates of different weight, and of any length
    _send_different(world, scale)
    base = _values(world, world.agreement.lineage(WORLD).start.model)
    # when they are merged
    model = _values(world, _release(world, 1))
    # then the model is what pencil and paper give, to float32's last digits
    want = _flat(world, base) + _mean(world)
    np.testing.assert_allclose(_flat(world, model), want, rtol=2e-5, atol=2e-6)


def test_frozen_tensors_come_through_bit_by_bit(world: World) -> None:
    # given a frozen tensor
    base = _values(world, world.agreement.lineage(WORLD).start.model)
    # when a round is released
    model = _values(world, _release(world, 1))
    # then it is what it was
    assert model["stem.weight"].tobytes() == base["stem.weight"].tobytes()
    assert "norm.shift" not in model


def test_nesterov_momentum_over_two_rounds(founded: Founded, tmp_path: Path) -> None:
    # given an outer optimiser with momentum, and the same updates in two rounds
    outer = Outer(optimizer="nesterov", lr=0.7, momentum=0.9)
    template = _with(founded, tmp_path / "template", outer=outer)
    with opened(template, tmp_path / "federation") as world:
        _send_different(world)
        base = _flat(world, _values(world, world.agreement.lineage(WORLD).start.model))
        mean = _mean(world)
        # when both are released
        first = _flat(world, _values(world, _release(world, 1)))
        second = _flat(world, _values(world, _release(world, 2)))
    # then each step is lr * (delta + mu * m) with m = mu * m + delta (arXiv:2311.08105)
    momentum = mean
    want = base + 0.7 * (mean + 0.9 * momentum)
    np.testing.assert_allclose(first, want, rtol=5e-5, atol=5e-6)
    momentum = 0.9 * momentum + mean
    want = want + 0.7 * (mean + 0.9 * momentum)
    np.testing.assert_allclose(second, want, rtol=5e-5, atol=5e-6)


def test_a_held_round_leaves_no_momentum(founded: Founded, tmp_path: Path) -> None:
    # given momentum, and a first round that is held
    outer = Outer(optimizer="nesterov", lr=1.0, momentum=0.5)
    template = _with(founded, tmp_path / "template", outer=outer)
    with opened(template, tmp_path / "federation") as world:
        _send_different(world)
        base = _flat(world, _values(world, world.agreement.lineage(WORLD).start.model))
        mean = _mean(world)
        world.place("cn").script.evaluated = {"accuracy": 0.0}
        world.run_to(WORLD, 1, "held")
        world.place("cn").script.evaluated = {"accuracy": 50.0}
        # when the second is released
        model = _flat(world, _values(world, _release(world, 2)))
    # then it is the first step that the lineage took
    np.testing.assert_allclose(model, base + 1.5 * mean, rtol=5e-5, atol=5e-6)


def test_int8_comes_within_one_step_of_exact(founded: Founded, tmp_path: Path) -> None:
    # given int8 both ways
    codecs = Codecs(updates="int8", releases="int8")
    template = _with(founded, tmp_path / "template", codecs=codecs)
    with opened(template, tmp_path / "federation") as world:
        _send_different(world)
        base = _flat(world, _values(world, world.agreement.lineage(WORLD).start.model))
        mean = _mean(world)
        # when a round is released
        model = _flat(world, _values(world, _release(world, 1)))
        largest = {name: np.abs(world.place(name).script.update).max() for name in EXAMPLES}
    # then no value is further off than the steps of every payload on its way, of its block's scale
    total = sum(EXAMPLES.values())
    step = sum(largest[name] * EXAMPLES[name] / total for name in EXAMPLES) / 127
    step += np.abs(mean).max() * 1.2 / 127
    assert np.abs(model - (base + mean)).max() <= step
    assert np.abs(model - base).max() > step


def test_every_region_computes_the_same_release(world: World) -> None:
    # given three updates
    _send_different(world)
    # when a release has been admitted everywhere
    model = _release(world, 1)
    for name in EXAMPLES:
        world.place(name).turn(WORLD)
    for name in EXAMPLES:
        world.place(name).turn(WORLD)
    # then every region holds the same bytes, which it computed itself
    want = world.hub.spool.model(model).read_bytes()
    for name in EXAMPLES:
        place = world.place(name)
        base = place.gateway.models.admitted(WORLD)
        assert base is not None
        assert (base.round, base.model) == (1, model)
        assert place.gateway.spool.model(model).read_bytes() == want


# ── what an audit finds ──


@pytest.fixture
def audited(released: World) -> World:
    """A hub with a release, whose log and replay hold."""
    released.hub.region.log.checkpoint()
    assert _verified(released) == 1
    return released


def _verified(world: World) -> int:
    return verify_home(world.homes["hub"].path, replayed=True).replayed


def _flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("region", ["cn", "de", "us"])
def test_a_replay_finds_a_changed_payload(audited: World, region: str) -> None:
    # given one bit changed in what a region sent, a year later
    payload = next(s.payload for s in audited.hub.inbox.submissions(WORLD, 1) if s.region == region)
    _flip(audited.hub.spool_of(region).payload(payload))
    # when the log is verified with a replay, then it says so; without one it still holds
    with pytest.raises(LogError):
        _verified(audited)
    verify_home(audited.homes["hub"].path)


def test_a_replay_finds_a_changed_base(audited: World) -> None:
    # given one bit changed in the model that the first round built on
    _flip(audited.hub.spool.model(audited.agreement.lineage(WORLD).start.model))
    # when the log is verified with a replay, then it says so
    with pytest.raises(LogError):
        _verified(audited)


def test_a_verification_finds_a_changed_entry(audited: World) -> None:
    # given one letter changed in the content of an entry
    path = audited.homes["hub"].log / "contents"
    (contents,) = [each for each in path.rglob("*") if each.is_file()]
    data = bytearray(contents.read_bytes())
    at = data.rindex(b'"kind":"release"')
    data[at + 8] = ord("R")
    contents.write_bytes(data)
    # when the log is verified, then the entry is found
    with pytest.raises(Error):
        verify_home(audited.homes["hub"].path)


def test_a_verification_finds_a_missing_tail(audited: World) -> None:
    # given a log whose last entries were cut off together with their commitments
    commitments = audited.homes["hub"].log / "commitments"
    commitments.write_bytes(commitments.read_bytes()[:-64])
    # when the log is verified, then it is short of its checkpoint
    with pytest.raises(Error):
        verify_home(audited.homes["hub"].path)


def test_a_merge_of_the_same_updates_does_not_depend_on_who_came_first(
    template: Template, tmp_path: Path
) -> None:
    # given the same updates, arriving in different orders
    models = []
    for order in (("cn", "de", "us"), ("us", "de", "cn"), ("de", "us", "cn")):
        with opened(template, tmp_path / "-".join(order)) as world:
            _send_different(world)
            for name in order:
                world.place(name).turn(WORLD)
            # when they are merged
            while world.hub.journal.current_round(WORLD).state != "evaluating":  # type: ignore[union-attr]
                assert advance(world.hub, WORLD)
            candidate = world.hub.journal.current_round(WORLD).candidate  # type: ignore[union-attr]
            assert candidate is not None
            models.append((candidate.model, candidate.payload.digest))
    # then they give the same bytes
    assert len(set(models)) == 1
