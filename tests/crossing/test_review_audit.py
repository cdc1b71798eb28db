"""What an outsider asks of a log: a lie in any entry, or one left out, does not hold."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.places.founding import Template
from tests.places.world import WORLD, World
from tests.places.world import opened as opened_world

from ringfence.cli.auditing import verify_home
from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import (
    Declaration,
    ReceiptNote,
    receipt_from_bytes,
    receipt_to_bytes,
    statement_digest,
)
from ringfence.core.errors import LogError
from ringfence.crossing.audit import Audit
from ringfence.crossing.entries import Entry
from ringfence.crossing.signatures import keep_signatures, read_signatures, sign_agreement
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE, seal_declaration
from ringfence.trust.dsse import open_envelope, seal
from ringfence.trust.keys import Ed25519Signer

replace = msgspec.structs.replace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """Logs after one released round, and keys to tell other stories with."""

    agreement: Agreement
    signers: dict[str, Ed25519Signer]
    entries: dict[str, list[Entry]]
    homes: dict[str, Path]

    def audit(self, entries: list[Entry], owner: str = "hub", *, whole: bool = True) -> Audit:
        audit = Audit(
            owner=self.agreement.region(owner).id,  # type: ignore[arg-type]
            agreements={self.agreement.digest: self.agreement},
            whole=whole,
        )
        for index, entry in enumerate(entries):
            audit.read(index, entry.to_bytes())
        return audit

    def declared(self, entry: Entry) -> Declaration:
        audit = self.audit([e for e in self.entries["hub"] if e.kind == "agreement"], whole=False)
        declaration = audit.read(99, entry.to_bytes()).declaration
        assert declaration is not None
        return declaration

    def resealed(self, entry: Entry, signer: str, **changes: object) -> Entry:
        """The entry over another statement, properly signed by `signer`."""
        declaration = replace(self.declared(entry), **changes)
        envelope = seal_declaration(declaration, self.signers[signer])
        return replace(entry, subject=statement_digest(envelope), envelope=envelope.decode())


@pytest.fixture(scope="module")
def told(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with opened_world(template, tmp_path_factory.mktemp("told") / "federation") as world:
        world.run_to(WORLD, 1, "released")
        world.run_to(WORLD, 2, "open", "collecting")
        for name in ("cn", "de", "us"):
            world.place(name).turn(WORLD)
        signers = {name: world.signer(name, "statement") for name in world.homes}
        keep_all(world, signers)
        for name in world.homes:
            region = world.hub.region if name == "hub" else world.place(name).region
            region.log.checkpoint()
        yield Told(
            agreement=world.agreement,
            signers=signers,
            entries={name: world.entries(name) for name in world.homes},
            homes={name: home.path for name, home in world.homes.items()},
        )


def keep_all(world: World, signers: dict[str, Ed25519Signer]) -> None:
    agreement = world.agreement
    signatures = {
        name: sign_agreement(agreement, world.homes[name].region, signer)
        for name, signer in signers.items()
    }
    for home in world.homes.values():
        keep_signatures(home.agreement, agreement, signatures)


def index_of(entries: list[Entry], kind: str, wanted: Callable[[Entry], bool]) -> int:
    return next(i for i, e in enumerate(entries) if e.kind == kind and wanted(e))


def any_of(_: Entry) -> bool:
    return True


def test_every_log_of_a_round_holds(told: Told) -> None:
    for name, entries in told.entries.items():
        told.audit(entries, name)
    hub = verify_home(told.homes["hub"], replayed=True)
    assert (hub.undisclosed, hub.replayed, hub.merges, hub.releases) == (0, 1, 1, 1)


@pytest.mark.parametrize("kind", ["merge", "release", "agreement"])
def test_an_entry_that_others_rest_on_cannot_be_left_out(told: Told, kind: str) -> None:
    entries = [entry for entry in told.entries["hub"] if entry.kind != kind]
    with pytest.raises(LogError, match=f"no {kind}"):
        told.audit(entries)


def test_a_copy_that_leaves_out_an_entry_says_so_and_holds_for_the_rest(told: Told) -> None:
    entries = [entry for entry in told.entries["hub"] if entry.kind != "merge"]
    told.audit(entries, whole=False)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda e: replace(e, round=2), "expected round of the update"),
        (lambda e: replace(e, lineage="us-market"), "contributors|one each|lineage of the update"),
        (lambda e: replace(e, inputs=(e.subject, *e.inputs[1:])), "parent of the update"),
        (lambda e: replace(e, inputs=e.inputs[:3]), "at least 2"),
        (lambda e: replace(e, inputs=(*e.inputs, e.inputs[2])), "one each"),
        (lambda e: replace(e, inputs=(*e.inputs[:2], *reversed(e.inputs[2:]))), "in order"),
        (lambda e: replace(e, inputs=e.inputs[:2]), "a merge of nothing"),
        (lambda e: replace(e, inputs=(e.inputs[0], e.subject, *e.inputs[2:])), "expected model"),
        (lambda e: replace(e, subject=e.inputs[1]), "expected payload"),
    ],
)
def test_a_merge_is_of_updates_of_its_round_and_candidates_are_of_it(
    told: Told, change: Callable[[Entry], Entry], problem: str
) -> None:
    entries = list(told.entries["hub"])
    at = index_of(entries, "merge", any_of)
    entries[at] = change(entries[at])
    with pytest.raises(LogError, match=problem):
        told.audit(entries)


@pytest.mark.parametrize("kind", ["candidate", "release"])
@pytest.mark.parametrize("field", ["model", "parent", "jurisdictions"])
def test_what_the_hub_hands_out_is_what_it_recorded(told: Told, kind: str, field: str) -> None:
    # given a statement for one region that tells it something else, well signed
    entries = list(told.entries["hub"])
    at = index_of(entries, "intent", lambda e: told.declared(e).kind == kind)
    other: object = "chunked-blake3:" + "0" * 64 if field != "jurisdictions" else ("EU",)
    entries[at] = told.resealed(entries[at], "hub", **{field: other})
    # when, then
    with pytest.raises(LogError, match=f"entry {at}: expected {field}"):
        told.audit(entries)


def test_a_release_record_is_of_the_merge_and_of_every_measurement(told: Told) -> None:
    at = index_of(told.entries["hub"], "release", any_of)
    record = told.entries["hub"][at]
    for changed in (
        replace(record, subject=record.inputs[0]),
        replace(record, inputs=(record.subject, *record.inputs[1:])),
        replace(record, inputs=record.inputs[:-1]),
        replace(record, measurements=record.measurements[1:]),
    ):
        entries = [*told.entries["hub"][:at], changed]
        with pytest.raises(LogError, match=f"entry {at}: expected"):
            told.audit(entries)


@pytest.mark.parametrize("field", ["payload", "sender", "recipient", "statement"])
def test_a_receipt_is_for_exactly_what_was_sent(told: Told, field: str) -> None:
    # given
    entries = list(told.entries["de"])
    at = index_of(entries, "receipt", any_of)
    note = receipt_from_bytes(opened(entries[at], told.signers["hub"]))
    other = {"payload": "", "sender": "cn", "recipient": "cn", "statement": "sha256:" + "0" * 64}
    entries[at] = receipted(entries[at], replace(note, **{field: other[field]}), told)
    # when, then
    with pytest.raises(LogError, match=f"entry {at}"):
        told.audit(entries, "de")


def test_an_admission_is_of_a_release_that_arrived_from_the_hub(told: Told) -> None:
    # given
    entries = told.entries["de"]
    at = index_of(entries, "admission", lambda e: told_kind(told, e) == "release")
    admission = entries[at]
    candidate = entries[index_of(entries, "arrival", lambda e: told_kind(told, e) == "candidate")]
    hub_only = [e for e in entries[:at] if e.envelope != admission.envelope]
    # when, then
    for story, problem in (
        ([*entries[:at], replace(admission, subject="sha256:" + "0" * 64)], "expected model"),
        ([*entries[:at], replace(candidate, kind="admission")], "admits a candidate"),
        ([*entries[:at], replace(admission, counterparty="us")], "."),
        ([*hub_only, admission], "no arrival"),
    ):
        with pytest.raises(LogError, match=problem):
            told.audit(story, "de")


def test_a_statement_of_another_round_than_its_entry_says_does_not_hold(told: Told) -> None:
    entries = list(told.entries["hub"])
    at = index_of(entries, "arrival", any_of)
    entries[at] = replace(entries[at], round=7)
    with pytest.raises(LogError, match="expected round 7, got 1"):
        told.audit(entries)


def test_a_copy_without_contents_does_not_hold_by_itself(told: Told, tmp_path: Path) -> None:
    # given
    copy = tmp_path / "copy"
    for part in ("log", "agreement"):
        shutil.copytree(told.homes["hub"] / part, copy / part)
    shutil.rmtree(copy / "log/contents")
    (copy / "log/commitments").unlink()
    # when, then
    with pytest.raises(LogError, match="nothing is known of them"):
        verify_home(copy)
    accepted = verify_home(copy, allow_undisclosed=True)
    assert accepted.undisclosed == accepted.size
    with pytest.raises(LogError, match="not for a replay"):
        verify_home(copy, allow_undisclosed=True, replayed=True)


@pytest.mark.parametrize("trouble", ["missing", "another region's"])
def test_crossings_need_the_signatures_of_every_region(
    told: Told, tmp_path: Path, trouble: str
) -> None:
    # given
    copy = tmp_path / "copy"
    for part in ("log", "agreement"):
        shutil.copytree(told.homes["hub"] / part, copy / part)
    signatures = read_signatures(copy / "agreement", told.agreement)
    (folder,) = (copy / "agreement/signatures").iterdir()
    if trouble == "missing":
        (folder / "us.dsse.json").unlink()
    else:
        (folder / "us.dsse.json").write_bytes(signatures["de"])
    # when, then
    with pytest.raises(LogError, match="crossings under"):
        verify_home(copy)


def test_signatures_are_kept_under_the_agreements_own_names_only(
    told: Told, tmp_path: Path
) -> None:
    keep_signatures(tmp_path / "agreement", told.agreement, {"../../us": b"x", "us": b"y"})
    assert read_signatures(tmp_path / "agreement", told.agreement) == {"us": b"y"}
    assert not (tmp_path / "us.dsse.json").exists()


def told_kind(told: Told, entry: Entry) -> str:
    signer = told.signers["hub"]
    data = opened(entry, signer)
    return str(msgspec.json.decode(data)["predicate"].get("kind", ""))


def opened(entry: Entry, signer: Ed25519Signer) -> bytes:
    return open_envelope(
        entry.envelope.encode(),
        public_key=signer.public_key,
        payload_type=STATEMENT_PAYLOAD_TYPE,
        limit_bytes=1 << 22,
        what="statement",
    )


def receipted(entry: Entry, note: ReceiptNote, told: Told) -> Entry:
    envelope = seal(
        receipt_to_bytes(note), payload_type=STATEMENT_PAYLOAD_TYPE, signer=told.signers["hub"]
    )
    return replace(entry, envelope=envelope.decode())
