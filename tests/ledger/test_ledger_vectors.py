"""The frozen bytes of every format: written the same today, readable for ever."""

from __future__ import annotations

from pathlib import Path

from tests.ledger.ledger_world import LOG_KEY, WITNESS_KEYS, content
from tests.ledger.make_vectors import VECTORS, write_vectors

from ringfence.ledger.disclosure import check_proof
from ringfence.ledger.verify import verify_log


def test_today_s_bytes_are_the_frozen_ones(tmp_path: Path) -> None:
    # when
    write_vectors(tmp_path)
    # then
    frozen = sorted(path.relative_to(VECTORS) for path in VECTORS.rglob("*") if path.is_file())
    assert len(frozen) == 12
    for name in frozen:
        assert (tmp_path / name).read_bytes() == (VECTORS / name).read_bytes(), name


def test_the_first_version_of_a_log_verifies() -> None:
    # when
    report = verify_log(VECTORS / "log-v1", log_key=LOG_KEY, witnesses=WITNESS_KEYS)
    # then
    assert (report.checkpoint.size, report.disclosed, report.pending) == (5, 5, 1)
    assert report.cosigned_by == {"be.example/witness", "de.example/witness"}


def test_the_first_version_of_a_proof_checks() -> None:
    # given
    proof = (VECTORS / "proof-v1.json").read_bytes()
    # when
    proven = check_proof(proof, log_key=LOG_KEY, witnesses=WITNESS_KEYS, cosignatures=2)
    # then
    assert (proven.index, proven.content) == (3, content(3))
