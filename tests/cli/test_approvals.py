"""`ringfence approvals`, on a sample federation with real keys, packs and files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed
from tests.cli.calling import Outcome, call

from ringfence.cli.agreement_text import render
from ringfence.config import open_home
from ringfence.core.clock import system_clock, to_rfc3339
from ringfence.core.ids import Digest
from ringfence.core.terms import Approver, TwoPerson
from ringfence.crossing.papers import file_name, open_approval, seal_approval
from ringfence.opening import open_region, read_agreement
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.trust.keys import load_ed25519, read_passphrase

DAY_S = 86_400.0
ASSESSMENT = "cac.assessment/world/cn-eu"


@pytest.fixture
def cn(sample: Path) -> Path:
    """China's home."""
    return sample / "regions/cn"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "assessment.pdf"
    path.write_bytes(b"the paper itself")
    return path


def approvals(*words: object, home: Path) -> Outcome:
    return call("approvals", *words, "--home", home, "--json")


def held(home: Path, name: str = ASSESSMENT) -> Approval:
    envelope = (home / "approvals" / file_name(name)).read_bytes()
    return open_approval(read_agreement(open_home(home)), envelope, what=name)


def put(home: Path, approval: Approval) -> Path:
    """Have the home's counsel sign exactly this, without any command."""
    opened = open_home(home)
    counsel = load_ed25519(
        opened.keys / "offline/counsel.key", read_passphrase(opened.passphrase_source())
    )
    path = home / "approvals" / file_name(approval.id)
    path.write_bytes(seal_approval(approval, counsel))
    return path


def remove(home: Path, name: str = ASSESSMENT) -> None:
    (home / "approvals" / file_name(ApprovalId(name))).unlink()


def request(
    home: Path,
    paper_itself: object,
    *,
    type_: str = "cac.assessment",
    days: float = 300,
    **more: object,
) -> Outcome:
    values: dict[str, object] = {
        "lineage": "world",
        "to": "EU",
        "issuer": "the authority",
        "document": paper_itself,
        "expires": to_rfc3339(system_clock() + days * DAY_S),
    }
    words = [word for name, value in (values | more).items() for word in (f"--{name}", value)]
    return approvals("request", type_, *words, home=home)


def sign(home: Path, made: Outcome, *more: object) -> Outcome:
    return approvals("sign", made.json["request"], "--yes", *more, home=home)


def paper(listing: Outcome, name: str = ASSESSMENT) -> dict[str, Any]:
    (found,) = [each for each in listing.json["papers"] if each["id"] == name]
    return dict(found)


# ── list ──


def test_the_sample_lacks_nothing(written: tuple[Path, Outcome]) -> None:
    # given the sample as it is written
    homes = sorted((written[0] / "regions").iterdir())
    # when each region's papers are listed
    listings = [approvals("list", home=home) for home in homes]
    # then all are valid, and nothing is missing or ends soon
    for listing in listings:
        assert listing.status == 0
        assert {each["state"] for each in listing.json["papers"]} == {"valid"}
        assert (listing.json["missing"], listing.json["warnings"]) == ([], [])
    shown = call("approvals", "list", "--home", homes[0]).output
    assert "look again" in " ".join(shown.split())


def test_a_missing_paper_is_named_with_the_steps_that_need_it(cn: Path) -> None:
    # given a region without its assessment
    remove(cn)
    # when its papers are listed
    listing, shown = approvals("list", home=cn), call("approvals", "list", "--home", cn)
    # then that is said, for the steps that this region judges
    assert (listing.status, shown.status) == (1, 1)
    (lack,) = listing.json["missing"]
    assert lack["step"] == "world: export update cn > hub"
    assert "CN-AUTO-2026" in lack["rules"]
    assert any(need.startswith("cac.assessment CN > EU") for need in lack["needs"])
    assert "missing: world: export update cn > hub" in shown.output


def test_a_paper_that_ends_soon_is_warned_of_until_another_follows(cn: Path) -> None:
    # given an assessment with fifty days left, which is less than sixty working days
    now_s = float(int(system_clock()))
    ends = replace(held(cn), expires=now_s + 50 * DAY_S)
    put(cn, ends)
    # when the papers are listed
    listing = approvals("list", home=cn)
    # then that is a warning, in status too
    assert listing.status == 1
    assert [ASSESSMENT in warning for warning in listing.json["warnings"]] == [True]
    assert (paper(listing)["state"], paper(listing)["days_left"]) == ("valid", 49)
    assert call("status", "--home", cn, "--json").json["warnings"] == 1
    # and once another follows, it is none
    put(
        cn,
        replace(
            ends, id=ApprovalId("next"), issued=ends.expires, expires=ends.expires + 300 * DAY_S
        ),
    )
    listing = approvals("list", home=cn)
    assert (listing.status, listing.json["warnings"]) == (0, [])
    assert paper(listing, "next")["state"] == "not yet valid"
    assert call("status", "--home", cn, "--json").json["warnings"] == 0


def test_an_expired_paper_says_so(cn: Path) -> None:
    now_s = float(int(system_clock()))
    put(cn, replace(held(cn), issued=now_s - DAY_S, expires=now_s - 60))
    listing = approvals("list", home=cn)
    assert (listing.status, paper(listing)["state"]) == (1, "expired")
    assert paper(listing)["days_left"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scope": Digest("sha256:" + "0" * 64)}, "expected scope sha256:.*, this one names "),
        ({"counterparties": frozenset({OperatorId("Another Ltd.")})}, "names Another Ltd."),
    ],
)
def test_drift_is_said_in_words(sample: Path, cn: Path, change: dict[str, Any], words: str) -> None:
    # given an assessment for another flow than the agreement's
    put(cn, replace(held(cn), **change))
    # when papers are listed and the plan is checked
    listing, check = approvals("list", home=cn), call("check", cn, "--json")
    # then both say what was expected and what it names
    assert (listing.status, check.status) == (1, 1)
    assert paper(listing)["state"] == "drifted"
    assert re.search(words, paper(listing)["detail"])
    refused = [row for row in check.json["crossings"] if not row["permitted"]]
    assert refused
    assert all(re.search(f"{ASSESSMENT}: expected", row["drifted"][0]) for row in refused)
    assert "drifted" in call("check", cn).output


# ── request ──


def test_a_request_shows_exactly_what_it_would_permit(cn: Path, document: Path) -> None:
    # given a plan that is refused for want of an assessment
    before = call("check", cn, "--json").json["crossings"]
    remove(cn)
    # when one is requested
    made = request(cn, document)
    # then it names the steps that would be permitted, and nothing was there before
    assert made.status == 0
    assert made.json["former"] == ""
    assert any(
        re.fullmatch(
            r"world: export update cn > hub \(asked by cn\): "
            r"refused \(.*CN-AUTO-2026.*\) > permitted",
            each,
        )
        for each in made.json["changes"]
    )
    assert sign(cn, made).json["missing"] == []
    # and once it is signed, they are, and no others
    assert call("check", cn, "--json").json["crossings"] == before
    assert approvals("list", home=cn).status == 0


def test_a_renewal_shows_what_differs_from_the_paper_before(cn: Path, document: Path) -> None:
    # given a region that holds an assessment
    made = request(cn, document, issuer="another authority")
    # when its renewal is read
    shown = json.loads(Path(made.json["request"]).read_bytes())
    differences = {each["field"]: each for each in shown["differences"]}
    # then only what is new differs, field by field, and the steps that rest on it are there
    assert made.json["former"] == ASSESSMENT
    assert set(differences) == {
        *("document", "expires", "id", "issued", "issuer", "revocation_source"),
    } - ({"issued"} if held(cn).issued == shown["approval"]["issued"] else set())
    assert differences["issuer"]["before"] == "SAMPLE issuer"
    assert differences["issuer"]["now"] == "another authority"
    assert made.json["changes"]
    # and a person is shown all of it
    command = ("approvals", "sign", made.json["request"], "--yes", "--home", cn)
    text = call(*command).output
    for words in ("another authority", "It differs from", "would change these planned steps"):
        assert words in text


def test_a_request_signs_nothing(cn: Path, document: Path) -> None:
    before = sorted((cn / "approvals").glob("*.dsse.json"))
    assert request(cn, document).status == 0
    assert sorted((cn / "approvals").glob("*.dsse.json")) == before


BAD_REQUESTS = {
    "an unknown type": ({"type_": "cac.asessment"}, "no type of paper"),
    "a type that nothing needs": ({"type_": "uk.idta"}, "no planned step needs"),
    "another's paper": ({"type_": "eu.dual_use_class", "to": "US"}, "request it there"),
    "an unknown lineage": ({"lineage": "moon"}, "no lineage"),
    "no place": ({"to": "Europe"}, "Europe"),
    "no such document": ({"document": "/nowhere"}, "No such file"),
    "no time": ({"expires": "soon"}, "expected a day such as"),
    "a time that is over": ({"days": -1}, "an expiry after the issue"),
    "a life that is too long": ({"days": 2000}, "a life of at most"),
    "nobody who issued it": ({"issuer": ""}, "1 to 200 letters in issuer"),
}


@pytest.mark.parametrize(("wrong", "problem"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_request_that_cannot_be_is_a_sentence(
    cn: Path, document: Path, wrong: dict[str, Any], problem: str
) -> None:
    outcome = request(cn, document, **wrong)
    assert (outcome.status, outcome.output) == (2, "")
    assert re.fullmatch(r"error: [^\n]{20,}\n", outcome.error), outcome.error
    assert problem in outcome.error


# ── sign ──


def _edited(made: Outcome, field: str, value: object) -> None:
    path = Path(made.json["request"])
    wire = json.loads(path.read_bytes())
    wire["approval"][field] = value
    path.write_text(json.dumps(wire, sort_keys=True, separators=(",", ":")))


def test_what_has_changed_since_it_was_shown_is_not_signed(cn: Path, document: Path) -> None:
    # given a request, and after it a paper that goes, so that other steps would change
    made = request(cn, document)
    remove(cn, "mnr.entrustment/world/cn-eu")
    # when it is signed
    outcome = sign(cn, made)
    # then it is refused, says what has changed, and nothing is written
    assert outcome.status == 1
    assert "request-changed" in outcome.error
    assert "changes" in outcome.error
    assert not list((cn / "approvals").glob("cac.assessment-world-cn-eu-2*.dsse.json"))


def test_a_request_under_another_agreement_is_not_signed(cn: Path, document: Path) -> None:
    # given a request, and a successor agreement after it
    made = request(cn, document)
    held_now = read_agreement(open_home(cn))
    successor = cn / "successor.toml"
    successor.write_text(render(changed(held_now.terms, predecessor=held_now.digest, clip_l2=7.0)))
    assert call("agree", successor, "--home", cn).status == 0
    # when it is signed
    outcome = sign(cn, made)
    # then it is refused: the flow that it names is not the agreed one any more
    assert outcome.status == 1
    assert re.search("was shown with other agreement, .*changes", outcome.error)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kinds", ["metrics", "update"]),
        ("counterparties", ["Another Ltd."]),
        ("destination", "US"),
        ("scope", "sha256:" + "0" * 64),
        ("document", "sha256:" + "0" * 64),
        ("issuer", "somebody"),
    ],
)
def test_an_edited_request_is_not_signed(
    cn: Path, document: Path, field: str, value: object
) -> None:
    # given a request in which somebody changed one field
    made = request(cn, document)
    _edited(made, field, value)
    # when it is signed
    outcome = sign(cn, made)
    # then it is refused
    assert outcome.status == 1
    assert "request-changed" in outcome.error


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[]"])
def test_a_malformed_request_is_a_fault(cn: Path, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(data)
    outcome = approvals("sign", path, "--yes", home=cn)
    assert (outcome.status, outcome.output) == (2, "")
    assert re.fullmatch(r"error: request[^\n]{10,}\n", outcome.error), outcome.error


def test_a_person_is_asked_before_anything_is_signed(cn: Path, document: Path) -> None:
    # given a request
    made = request(cn, document)
    command = [sys.executable, "-m", "ringfence.cli.main", "approvals", "sign"]
    command += [made.json["request"], "--home", str(cn)]
    # when a person says no, and then yes; and when a machine is asked
    no = subprocess.run(command, input="n\n", capture_output=True, text=True)
    signed = list((cn / "approvals").glob("cac.assessment-world-cn-eu-2*.dsse.json"))
    machine = approvals("sign", made.json["request"], home=cn)
    yes = subprocess.run(command, input="y\n", capture_output=True, text=True)
    # then only the yes signs
    assert (no.returncode, signed) == (1, [])
    assert (machine.status, "add --yes" in machine.error) == (2, True)
    assert yes.returncode == 0, yes.stderr
    assert "it counts from the next decision" in yes.stdout


def test_only_the_key_of_the_role_signs(cn: Path, document: Path) -> None:
    # given a request, and keys that are not counsel's of the holder
    made = request(cn, document)
    key = approvals("key", "privacy-officer", home=cn)
    foreign = ("--key", key.json["file"])
    # when they sign, then they do not
    stranger, other = sign(cn, made, *foreign), sign(cn, made, "--role", "privacy-officer")
    assert (stranger.status, other.status) == (2, 2)
    assert "expected a key that the agreement names as counsel" in stranger.error
    assert "is signed by counsel, not by 'privacy-officer'" in other.error
    assert not list((cn / "approvals").glob("cac.assessment-world-cn-eu-2*.dsse.json"))


def test_nobody_signs_a_paper_twice(cn: Path, document: Path) -> None:
    made = request(cn, document)
    first, again = sign(cn, made), sign(cn, made)
    assert (first.status, again.status) == (0, 2)
    assert "everybody has signed it" in again.error


@pytest.fixture
def officer(cn: Path) -> str:
    """China's agreement asks for a privacy officer besides counsel; its role."""
    made = approvals("key", "privacy-officer", home=cn)
    agreement = read_agreement(open_home(cn))
    named = Approver(role="privacy-officer", key=made.json["key"], person="Wang")
    regions = tuple(
        changed(party, approvers=(named,)) if party.id == "cn" else party
        for party in agreement.terms.regions
    )
    rule = TwoPerson(types=("cac.assessment",), roles=("counsel", "privacy-officer"))
    terms = changed(
        agreement.terms, regions=regions, two_person=(rule,), predecessor=agreement.digest
    )
    successor = cn / "successor.toml"
    successor.write_text(render(terms))
    assert call("agree", successor, "--home", cn).status == 0
    return "privacy-officer"


def test_two_people_sign_a_paper_of_such_a_type(cn: Path, document: Path, officer: str) -> None:
    # given a region whose agreement asks for two people, with papers that counsel alone signed
    waiting = approvals("list", home=cn)
    assert waiting.status == 1
    assert paper(waiting)["state"] == "unsigned"
    assert officer in paper(waiting)["detail"]
    # when counsel signs a new one, and then the officer
    made = request(cn, document)
    first = sign(cn, made)
    between = approvals("list", home=cn)
    second = sign(cn, made, "--role", officer)
    after = call("check", cn, "--json")
    # then it counts only with both
    assert (first.json["missing"], second.json["missing"]) == ([officer], [])
    assert (between.status, paper(between, made.json["id"])["state"]) == (1, "unsigned")
    assert (after.status, after.json["refused"]) == (0, 0)


def test_one_person_in_two_roles_signs_once(cn: Path, document: Path, officer: str) -> None:
    # given a paper that counsel has signed
    made = request(cn, document)
    assert sign(cn, made).status == 0
    # when counsel signs it again, for the officer too
    counsel = cn / "keys/offline/counsel.key"
    again, both = sign(cn, made), sign(cn, made, "--role", officer, "--key", counsel)
    # then it does not count for both
    assert (again.status, both.status) == (2, 2)
    assert "has signed it already" in again.error
    assert "expected a key that the agreement names as privacy-officer" in both.error


# ── revoke ──


def test_a_revocation_says_what_it_stops(cn: Path) -> None:
    # given a region that lacks nothing
    # when it revokes its assessment
    done = approvals("revoke", ASSESSMENT, "--reason", "a new [sensor]", home=cn)
    # then the steps that rested on it are named, and refused from now on
    assert done.status == 0
    assert any(
        re.match(r"world: export update cn > hub \(asked by cn\): permitted > refused \(", each)
        for each in done.json["stops"]
    )
    check = call("check", cn, "--json")
    assert check.status == 1
    listing = approvals("list", home=cn)
    assert (paper(listing)["state"], paper(listing)["detail"]) == ("revoked", "a new [sensor]")
    assert "[sensor]" in call("approvals", "list", "--home", cn).output


def test_what_a_process_has_seen_revoked_stays_so(cn: Path) -> None:
    # given a revocation, and a process of the region that started after it
    done = approvals("revoke", ASSESSMENT, "--reason", "x", home=cn)
    opened = open_home(cn)
    with open_region(opened, read_passphrase(opened.passphrase_source())) as region:
        region.law.approvals()
    # when the file is removed
    Path(done.json["revocation"]).unlink()
    # then the log still says so, to commands and to an auditor
    assert call("check", cn).status == 1
    assert paper(approvals("list", home=cn))["state"] == "revoked"
    assert call("log", "verify", cn).status == 0


def test_a_revocation_is_recorded_before_any_process_has_read_it(cn: Path) -> None:
    # given a region none of whose processes runs, and a paper that is revoked
    done = approvals("revoke", ASSESSMENT, "--reason", "x", home=cn)
    # when the file is removed
    Path(done.json["revocation"]).unlink()
    # then it is revoked all the same
    assert paper(approvals("list", home=cn))["state"] == "revoked"


def test_a_revocation_waits_for_no_running_process(cn: Path) -> None:
    # given a process that writes the region's log
    home = open_home(cn)
    with open_region(home, read_passphrase(home.passphrase_source())) as region:
        # when a paper is revoked meanwhile
        done = approvals("revoke", ASSESSMENT, "--reason", "x", home=cn)
        assert done.status == 0
        # then that process records it with its next decision
        assert ASSESSMENT not in {approval.id for approval in region.law.approvals()}
        Path(done.json["revocation"]).unlink()
    assert paper(approvals("list", home=cn))["state"] == "revoked"


def test_a_revoked_paper_does_not_come_back_under_its_id(cn: Path, document: Path) -> None:
    # given a paper of today that was revoked
    made = request(cn, document)
    sign(cn, made)
    approvals("revoke", made.json["id"], "--reason", "x", home=cn)
    # when it is requested again on the same day
    again = request(cn, document)
    # then it has another id, and counts
    assert again.json["id"] != made.json["id"]
    assert sign(cn, again).status == 0
    assert paper(approvals("list", home=cn), again.json["id"])["state"] == "valid"


@pytest.mark.parametrize(
    ("name", "words", "problem"),
    [
        ("no such paper", (), "no paper 'no such paper' is here"),
        ("eu.dual_use_class/world/hub-us", (), "its own approvers revoke it"),
        (ASSESSMENT, ("--role", "janitor"), "names no 'janitor'"),
        (ASSESSMENT, ("--key", "/nowhere"), "cannot be opened"),
        (ASSESSMENT, ("--reason", ""), "letters in reason"),
    ],
)
def test_what_cannot_be_revoked_is_a_sentence(
    cn: Path, name: str, words: tuple[str, ...], problem: str
) -> None:
    outcome = approvals("revoke", name, "--reason", "x", *words, home=cn)
    assert (outcome.status, outcome.output) == (2, "")
    assert problem in outcome.error
    assert not list((cn / "approvals").glob("*.revoked.dsse.json"))


def test_a_paper_is_revoked_once(cn: Path) -> None:
    approvals("revoke", ASSESSMENT, "--reason", "x", home=cn)
    again = approvals("revoke", ASSESSMENT, "--reason", "y", home=cn)
    assert again.status == 2
    assert "is revoked already (x)" in again.error


@pytest.mark.parametrize("role", ["", "../counsel", "Counsel", "a b"])
def test_a_key_has_the_name_of_a_role(cn: Path, role: str) -> None:
    outcome = approvals("key", role, home=cn)
    assert outcome.status == 2
    assert "expected a role" in outcome.error


def test_a_key_is_never_overwritten(cn: Path) -> None:
    outcome = approvals("key", "counsel", home=cn)
    assert outcome.status == 2
    assert "never overwritten" in outcome.error
