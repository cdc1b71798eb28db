"""Signed notes and checkpoints: the published examples, round trips, and hostile texts."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.ledger_world import (
    LOG_KEY,
    LOG_SECRET,
    NOW_S,
    ORIGIN,
    WITNESS_KEYS,
    WITNESSES,
    cosignature,
    secret,
)

from ringfence.core.errors import FormatError, LogError, TrustError
from ringfence.ledger.checkpoints import (
    Checkpoint,
    majority,
    open_checkpoint,
)
from ringfence.ledger.keys import COSIGNATURE, ED25519, NoteKey, NoteSecret, distinct
from ringfence.ledger.merkle import EMPTY_ROOT
from ringfence.ledger.notes import (
    SIGNATURES_LIMIT,
    Note,
    Signature,
    sign,
    verify_note,
    verify_signature,
)

# From the documentation of golang.org/x/mod/sumdb/note.
GO_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb"
    "6KE6RyyBwJnAM=\n"
)
# From the tests of github.com/transparency-dev/formats: the key of a public witness.
PUBLIC_WITNESS_KEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"

# From C2SP tlog-cosignature.
C2SP_NOTE = (
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q"
    "1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2"
    "oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

CHECKPOINT = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))


def signed(checkpoint: Checkpoint = CHECKPOINT, signer: NoteSecret = LOG_SECRET) -> str:
    text = checkpoint.to_text()
    return Note(text=text, signatures=(sign(text, signer.key, signer),)).to_text()


def test_signs_and_verifies_the_published_note() -> None:
    # given the published private key
    private = NoteSecret.from_text(GO_SECRET)
    text = GO_NOTE[: GO_NOTE.rindex("\n\n") + 1]
    # when
    note = Note(text=text, signatures=(sign(text, private.key, private),))
    # then key and note are, byte for byte, the published ones
    assert private.key.to_text() == GO_KEY
    assert private.to_text() == GO_SECRET
    assert note.to_text() == GO_NOTE
    assert verify_note(Note.from_text(GO_NOTE), [NoteKey.from_text(GO_KEY)])


def test_reads_the_published_key_of_a_public_witness() -> None:
    # when
    key = NoteKey.from_text(PUBLIC_WITNESS_KEY)
    # then
    assert (key.name, key.algorithm) == ("remora.n621.de", COSIGNATURE)
    assert key.to_text() == PUBLIC_WITNESS_KEY


def test_reads_the_specification_s_cosigned_checkpoint() -> None:
    # when
    note = Note.from_text(C2SP_NOTE)
    # then
    assert Checkpoint.from_text(note.text).size == 20852163
    assert [line.name for line in note.signatures] == [
        "example.com/behind-the-sofa",
        "witness.example.com/w1",
    ]
    assert int.from_bytes(note.signatures[1].blob[:8]) == 1679315147
    assert note.to_text() == C2SP_NOTE


def test_a_cosignature_signs_header_time_and_text() -> None:
    # given
    text, witness = CHECKPOINT.to_text(), WITNESSES[0]
    # when
    line = sign(text, witness.key, witness, time_s=NOW_S)
    # then the bytes are those of the specification, checked without our code
    Ed25519PublicKey.from_public_bytes(witness.public_key).verify(
        line.blob[8:], f"cosignature/v1\ntime {NOW_S}\n{text}".encode()
    )
    assert line.blob[:8] == NOW_S.to_bytes(8)
    assert verify_signature(text, witness.key, line).time_s == NOW_S


def test_a_cosignature_with_another_time_fails() -> None:
    # given
    text, witness = CHECKPOINT.to_text(), WITNESSES[0]
    line = sign(text, witness.key, witness, time_s=NOW_S)
    # when
    later = Signature(
        name=line.name, key_id=line.key_id, blob=(NOW_S + 1).to_bytes(8) + line.blob[8:]
    )
    # then
    with pytest.raises(TrustError, match="does not hold"):
        verify_signature(text, witness.key, later)


@pytest.mark.parametrize("algorithm", [ED25519, COSIGNATURE])
@given(name=st.text(min_size=1, max_size=40))
def test_keys_round_trip(algorithm: int, name: str) -> None:
    # given any name; those that no key may have are refused
    try:
        private = secret(name, algorithm)
    except (FormatError, UnicodeEncodeError):
        return
    # when, then
    assert NoteKey.from_text(private.key.to_text()) == private.key
    assert NoteSecret.from_text(private.to_text()) == private


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        GO_KEY[:-4],
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("c74f20a3", "C74F20A3"),
        GO_KEY.replace("+c7", "+0c7"),
        GO_KEY.replace("Peter", "Peter "),
        GO_KEY.replace("Peter", "Peter\u2003"),
        GO_KEY.replace("Peter", ""),
        GO_KEY + "\n",
        GO_KEY.replace("10TW", "10TX"),
        "rekor.sigstore.dev+12345678+THIS_IS_NOT_BASE64!",
        "rekor.sigstore.dev+12345678+AwEB",
        "name+12345678+",
    ],
)
def test_refuses_a_malformed_verifier_key(text: str) -> None:
    # when, then
    with pytest.raises(FormatError):
        NoteKey.from_text(text)


def test_refuses_a_malformed_private_key_without_repeating_it() -> None:
    # given private keys with one part broken
    broken = [
        GO_KEY,
        GO_SECRET.replace("c74f20a3", "c74f20a4"),
        GO_SECRET[:-4],
        GO_SECRET.replace("+AYEK", "+A!EK"),
    ]
    for text in broken:
        # when
        with pytest.raises(FormatError) as error:
            NoteSecret.from_text(text)
        # then
        assert "YEKFALVFGyNhPJEMzD1QIDr" not in str(error.value)
    assert "seed" not in repr(NoteSecret.from_text(GO_SECRET))


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n\n",
        C2SP_NOTE[:-1],
        C2SP_NOTE + "\n",
        C2SP_NOTE.replace("\n\n", "\n"),
        C2SP_NOTE.replace("— example", "- example"),
        C2SP_NOTE.replace("— example", "—  example"),
        C2SP_NOTE.replace("— example", "—\u00a0example"),
        C2SP_NOTE.replace("\n\n", "\r\n\r\n"),
        C2SP_NOTE.replace("20852163", "2085\x002163"),
        C2SP_NOTE.replace("20852163", "2085\t2163"),
        C2SP_NOTE.replace("20852163", "2085\ud800"),
        C2SP_NOTE.replace("AYQ8=", "AYQ9="),
        C2SP_NOTE.replace("AYQ8=", "AYQ8"),
        C2SP_NOTE.replace("+mbIU", "_mbIU"),
        C2SP_NOTE + "— name AAAAAA==\n",
        C2SP_NOTE + "— na+me Az3grlgt\n",
        C2SP_NOTE + "x" * 70_000 + "\n",
        C2SP_NOTE.replace("\n20", "\n" + "x" * 70_000 + "\n20"),
    ],
)
def test_refuses_a_malformed_note(note: str) -> None:
    # when, then
    with pytest.raises(FormatError):
        Note.from_text(note)


def test_the_last_empty_line_separates_text_and_signatures() -> None:
    # given a text with empty lines in it
    text = "a verse\n\nanother\n"
    note = Note(text=text, signatures=(sign(text, LOG_KEY, LOG_SECRET),))
    # when
    read = Note.from_text(note.to_text())
    # then
    assert read == note
    assert verify_note(read, [LOG_KEY])[0].key == LOG_KEY


def test_ignores_unknown_lines_but_counts_them_against_the_limit() -> None:
    # given lines of strangers before the log's own
    text = CHECKPOINT.to_text()
    strangers = tuple(
        Signature(name=f"stranger-{number}", key_id=b"abcd", blob=b"whatever")
        for number in range(SIGNATURES_LIMIT - 2)
    )
    # one of them with our name and another key, one with our key id and another name
    lookalikes = (
        Signature(name=ORIGIN, key_id=b"abcd", blob=b"whatever"),
        sign(text, LOG_KEY, LOG_SECRET),
    )
    note = Note(text=text, signatures=(*strangers, *lookalikes))
    # when
    verified = verify_note(Note.from_text(note.to_text()), [LOG_KEY])
    # then only the known line counts, and one line more is too many
    assert [each.key for each in verified] == [LOG_KEY]
    with pytest.raises(FormatError, match="signature lines"):
        Note.from_text(note.to_text() + strangers[0].to_line())


def test_a_known_key_s_line_that_does_not_hold_spoils_the_note() -> None:
    # given a good note and a broken line of a known witness beside the good ones
    note = signed() + cosignature(signed(), WITNESSES[0])
    other = signed(Checkpoint(origin=ORIGIN, size=8, root=bytes(32)))
    spoiled = note + cosignature(other, WITNESSES[1])
    # when, then
    with pytest.raises(TrustError, match="does not hold"):
        open_checkpoint(spoiled, log_key=LOG_KEY, witnesses=WITNESS_KEYS)


def test_refuses_a_note_that_nobody_known_signed() -> None:
    # given the right name and another key
    stranger = NoteSecret.from_text(secret("stranger").to_text())
    # when, then
    with pytest.raises(TrustError, match="found none"):
        verify_note(Note.from_text(signed(signer=stranger)), [LOG_KEY])


def test_a_device_that_signs_wrongly_is_found_at_once() -> None:
    # given a signer with the log's public key and another private key
    class BrokenDevice:
        public_key = LOG_KEY.public_key

        def sign(self, message: bytes) -> bytes:
            return secret("another").sign(message)

    # when, then
    with pytest.raises(TrustError, match="does not hold"):
        sign(CHECKPOINT.to_text(), LOG_KEY, BrokenDevice())


def test_one_key_under_two_names_does_not_count_twice() -> None:
    # given a witness whose key stands under a second name
    first = WITNESS_KEYS[0]
    second = NoteKey(name="other.example", algorithm=COSIGNATURE, public_key=first.public_key)
    # when, then
    with pytest.raises(TrustError, match="share one key"):
        distinct((first, second))
    assert distinct((first, first)) == (first,)
    with pytest.raises(TrustError, match="share one key"):
        open_checkpoint(
            signed(),
            log_key=LOG_KEY,
            witnesses=[
                NoteKey(name="cn.example/w", algorithm=COSIGNATURE, public_key=LOG_KEY.public_key)
            ],
        )


@given(
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    extensions=st.lists(
        st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1), max_size=2
    ),
)
def test_checkpoints_round_trip(size: int, root: bytes, extensions: list[str]) -> None:
    # given
    checkpoint = Checkpoint(
        origin=ORIGIN, size=size, root=root if size else EMPTY_ROOT, extensions=tuple(extensions)
    )
    # when, then
    assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint
    opened = open_checkpoint(signed(checkpoint), log_key=LOG_KEY)
    assert opened.checkpoint == checkpoint
    assert opened.cosigned_by == frozenset()


@pytest.mark.parametrize(
    ("size", "root"),
    [
        ("07", bytes(32)),
        ("-7", bytes(32)),
        ("+7", bytes(32)),
        ("7 ", bytes(32)),
        ("٧", bytes(32)),
        ("7.0", bytes(32)),
        ("", bytes(32)),
        ("9223372036854775808", bytes(32)),
        ("9" * 60_000, bytes(32)),
        ("7", bytes(31)),
        ("7", bytes(33)),
        ("0", bytes(32)),
    ],
)
def test_refuses_a_malformed_checkpoint_even_when_signed(size: str, root: bytes) -> None:
    # given
    text = f"{ORIGIN}\n{size}\n{base64.b64encode(root).decode()}\n"
    note = Note(text=text, signatures=(sign(text, LOG_KEY, LOG_SECRET),))
    # when, then
    with pytest.raises(FormatError):
        open_checkpoint(note.to_text(), log_key=LOG_KEY)


@pytest.mark.parametrize("text", ["", "\n", "a\n", "a\n1\n", "a\n1\n\n", "a\n1\n+\n"])
def test_refuses_a_text_that_is_no_checkpoint(text: str) -> None:
    # when, then
    with pytest.raises(FormatError):
        Checkpoint.from_text(text)


def test_refuses_another_log_s_checkpoint_under_the_right_key() -> None:
    # given the log's key under a text with another origin
    note = signed(Checkpoint(origin="us.example/log", size=7, root=bytes(32)))
    # when, then
    with pytest.raises(LogError, match="expected origin"):
        open_checkpoint(note, log_key=LOG_KEY)


def test_refuses_a_checkpoint_that_only_witnesses_signed() -> None:
    # given
    text = CHECKPOINT.to_text()
    line = sign(text, WITNESS_KEYS[0], WITNESSES[0], time_s=NOW_S)
    note = Note(text=text, signatures=(line,)).to_text()
    # when, then
    with pytest.raises(TrustError, match="without a signature of its log"):
        open_checkpoint(note, log_key=LOG_KEY, witnesses=WITNESS_KEYS)


def test_counts_each_witness_once() -> None:
    # given a checkpoint with two lines of one witness and one of a stranger
    note = signed()
    note += cosignature(note, WITNESSES[0]) + cosignature(note, WITNESSES[0], time_s=NOW_S + 1)
    note += cosignature(note, secret("stranger", COSIGNATURE))
    # when
    names = open_checkpoint(note, log_key=LOG_KEY, witnesses=WITNESS_KEYS).cosigned_by
    # then one of three is no majority, two are
    assert names == {"be.example/witness"}
    assert len(names) < majority(len(WITNESS_KEYS))
    note += cosignature(note, WITNESSES[2])
    names = open_checkpoint(note, log_key=LOG_KEY, witnesses=WITNESS_KEYS).cosigned_by
    assert names == {"be.example/witness", "us.example/witness"}
    assert len(names) == majority(len(WITNESS_KEYS))


def test_no_witnesses_have_no_majority() -> None:
    # when, then: nobody is fewer than more than half of nobody
    assert open_checkpoint(signed(), log_key=LOG_KEY, witnesses=()).cosigned_by == frozenset()
    assert majority(0) == 1
    assert [majority(number) for number in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]
