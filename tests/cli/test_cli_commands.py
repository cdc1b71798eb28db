"""Every command: its help, its JSON, its status, and the one sentence that a fault is worth."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.cli.calling import Outcome, call

from ringfence.cli.main import app


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = sorted(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_says_what_it_does_and_answers_machines(words: tuple[str, ...]) -> None:
    # given a command
    # when it is asked what it does
    outcome = call(*words, "--help")
    # then it says so, and that it can answer as JSON
    assert outcome.status == 0
    assert f"Usage: ringfence {' '.join(words)} [OPTIONS]" in outcome.output
    assert "--json" in outcome.output


def test_the_program_is_on_the_path_and_writes_a_sample(tmp_path: Path) -> None:
    # given the installed program
    program = Path(sys.executable).with_name("ringfence")
    # when a person calls it
    command = [program, "init", str(tmp_path / "federation")]
    outcome = subprocess.run(command, capture_output=True, text=True)
    # then it does its work and says what comes next, in one line though nobody sees it
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout.count("\n") == 1
    assert f"{tmp_path}/federation/README.md" in outcome.stdout


FAULTS = {
    "no such home": ("status", "--home", "{sample}/nowhere"),
    "no such agreement": ("agree", "{sample}/nowhere.toml", "--home", "{cn}"),
    "an agreement that is none": ("agree", "{sample}/README.md", "--home", "{cn}"),
    "no such federation": ("check", "{sample}/nowhere"),
    "a federation without regions": ("check", "{cn}/approvals"),
    "no such log": ("log", "verify", "{sample}/nowhere"),
    "a home without a log": ("log", "verify", "{cn}/packs"),
    "a replay of what is not there": ("log", "verify", "{sample}/nowhere", "--replay"),
    "an entry that is not there": ("log", "prove", "{cn}", "99", "--out", "{sample}/proof"),
    "no such proof": (
        *("log", "check", "{sample}/nowhere", "--region", "cn"),
        *("--agreement", "{sample}/federation.toml"),
    ),
    "a proof that is none": (
        *("log", "check", "{sample}/README.md", "--region", "cn"),
        *("--agreement", "{sample}/federation.toml"),
    ),
    "a proof of nobody": (
        *("log", "check", "{sample}/README.md", "--region", "jp"),
        *("--agreement", "{sample}/federation.toml"),
    ),
    "a release of a log without one": ("lineage", "world:1", "--home", "{cn}"),
    "a release by no name": ("lineage", "newest", "--home", "{hub}"),
    "a coordinator outside of the hub": ("coordinator", "--home", "{cn}"),
    "a coordinator that listens nowhere": ("coordinator", "--home", "{hub}", "--listen", "here"),
    "a coordinator without its model": (
        *("coordinator", "--home", "{hub}"),
        *("--initial", "{sample}/nowhere.safetensors"),
    ),
    "a coordinator with another model": (
        *("coordinator", "--home", "{hub}", "--initial", "{sample}/README.md"),
    ),
    "a gateway without a catalogue": ("gateway", "--home", "{hub}"),
    "an issuer that is nowhere": ("issuer", "--home", "{sample}/nowhere"),
    "no such script": ("train", "{sample}/nowhere.py", "--home", "{cn}"),
}


@pytest.mark.parametrize("arguments", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_one_sentence_and_status_2(sample: Path, arguments: tuple[str, ...]) -> None:
    # given arguments of which one leads nowhere
    places = {"sample": sample, "cn": sample / "regions/cn", "hub": sample / "regions/hub"}
    words = [word.format(**places) for word in arguments]
    # when the command is called, for a person and for a machine
    for outcome in (call(*words), call(*words, "--json")):
        # then it ends with a sentence that tells a person what is wrong with what
        assert (outcome.status, outcome.output) == (2, "")
        assert re.fullmatch(r"error: [^\n]{20,}\n", outcome.error), outcome.error


def test_a_coordinator_names_the_address_that_somebody_else_has(sample: Path) -> None:
    # given an address that somebody listens at
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        # when the coordinator should listen there
        outcome = call("coordinator", "--home", sample / "regions/hub", "--listen", address)
    # then it ends, and says where it could not listen
    assert outcome.status == 2
    assert f"error: {address}: cannot listen there (Address already in use" in outcome.error


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("region.toml", "region = 7"),
        ("region.toml", 'region = "cn"\nunknown = 1'),
        ("region.toml", 'region = "cn"\ndatabase = "no url"'),
        ("region.toml", 'region = "cn"\npassphrase = "file:keys/nowhere"'),
        ("catalogue.json", "{}"),
        ("facts.toml", "[[screenings]]\nname = 1"),
        ("agreement/federation.toml", "version = 1"),
        ("packs/cn.cedar", "permit (everything);"),
        ("approvals/forged.dsse.json", "{}"),
    ],
)
def test_a_broken_file_of_a_home_is_named(sample: Path, file: str, text: str) -> None:
    # given a region with one file that does not say what it should
    home = sample / "regions/cn"
    (home / file).write_text(text)
    # when what reads it is called
    words = ("check", home) if file[:2] in ("fa", "pa", "ap") else ("gateway", "--home", home)
    outcome = call(*words)
    # then it ends with a sentence that names the file or what is in it
    assert (outcome.status, outcome.output) == (2, "")
    assert re.fullmatch(r"error: [^\n]{20,}\n", outcome.error), outcome.error


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('data_classes = ["personal"]', 'data_classes = ["personel"]', "personel"),
        ("clip_l2 = 100.0", "clip_l2 = 100.0\nclip_l1 = 3.0", "clip_l1"),
        ("traits = []", 'traits = ["saint"]', "saint"),
    ],
)
def test_agree_names_the_file_and_the_word_that_the_law_does_not_know(
    sample: Path, before: str, after: str, said: str
) -> None:
    # given an agreement with a slip in a word that the packs are asked about
    agreement = sample / "slip.toml"
    agreement.write_text((sample / "federation.toml").read_text().replace(before, after, 1))
    # when a region should sign it
    outcome = call("agree", agreement, "--home", sample / "regions/cn")
    # then it does not, and says in which file which word is wrong
    assert (outcome.status, outcome.output) == (2, "")
    assert outcome.error.startswith(f"error: {agreement}: agreement: ")
    assert said in outcome.error


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('["personal",', '["biometric","personal",', "biometric"),
        ('["personal",', '["personel",', "personel"),
        ('"jurisdiction":"CN"', '"jurisdiction":"EU"', "EU"),
    ],
)
def test_check_judges_no_data_of_another_class_or_place_than_agreed(
    sample: Path, before: str, after: str, said: str
) -> None:
    # given a region whose catalogue holds data that the agreement does not tell the packs of
    catalogue = sample / "regions/cn/catalogue.json"
    catalogue.write_text(catalogue.read_text().replace(before, after, 1))
    # when the plan is checked
    outcome = call("check", sample)
    # then nothing is judged as if they were not there
    assert (outcome.status, outcome.output) == (2, "")
    assert outcome.error.startswith(f"error: {catalogue}: ")
    assert said in outcome.error


def test_words_in_brackets_are_part_of_a_sentence(sample: Path) -> None:
    # given a sentence with brackets, which the terminal library would take for markup
    agreement = sample / "other.toml"
    text = (sample / "federation.toml").read_text()
    agreement.write_text(text.replace('norm = "regional"\n', ""))
    # when it is said
    outcome = call("agree", agreement, "--home", sample / "regions/cn")
    # then they are there
    assert "has no placement in [modules]" in outcome.error


# ── init ──


def test_init_writes_a_commented_federation_for_four_regions(
    written: tuple[Path, Outcome],
) -> None:
    # given what `init` said and wrote
    path, said = written
    # when both are read
    agreement = (path / "federation.toml").read_text()
    homes = sorted(home.name for home in (path / "regions").iterdir())
    # then it says where it is and who is in it, every table is explained, and keys are nobody's
    assert said.status == 0
    assert said.json["directory"] == str(path)
    assert sorted(said.json["regions"]) == homes == ["cn", "de", "hub", "us"]
    for table in re.findall(r"^\[([a-z]+)", agreement, re.MULTILINE):
        before = agreement.split(f"[{table}", 1)[0]
        assert "# " in before.rsplit("\n\n", 1)[-1], f"[{table}] is not explained"
    for key in (path / "regions").glob("*/keys/**/*.key"):
        assert key.stat().st_mode & 0o077 == 0
        assert b"ENCRYPTED" in key.read_bytes()


def test_init_names_only_commands_that_there_are(written: tuple[Path, Outcome]) -> None:
    # given the README of the sample
    readme = (written[0] / "README.md").read_text()
    # when its commands are read
    named = set(re.findall(r"ringfence ((?:log )?[a-z]+)", readme))
    # then the program has them all
    assert named
    assert named <= {" ".join(words) for words in COMMANDS}


def test_init_leaves_a_directory_alone_that_is_not_empty(tmp_path: Path) -> None:
    # given a directory with somebody's file in it
    (tmp_path / "letter").write_text("dear")
    # when a sample should come there
    outcome = call("init", tmp_path)
    # then it does not, and nothing has changed
    assert outcome.status == 2
    assert "choose a directory that does not exist yet" in outcome.error
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("letter", "dear")]


# ── check, status ──


def test_check_permits_the_sample_as_it_is_written(written: tuple[Path, Outcome]) -> None:
    # given the sample with all its papers
    path, _ = written
    # when every crossing is judged, of all regions and of one
    everybody, china = (
        call("check", path, "--json"),
        call("check", path / "regions/cn", "--json"),
    )
    # then each is permitted, and one region answers for what it will be asked
    assert (everybody.status, china.status) == (0, 0)
    assert (everybody.json["refused"], china.json["refused"]) == (0, 0)
    assert {row["judged_by"] for row in everybody.json["crossings"]} == {"hub", "cn", "de", "us"}
    assert china.json["crossings"] == [
        row for row in everybody.json["crossings"] if row["judged_by"] == "cn"
    ]


def test_check_says_where_people_read_that_it_is_no_legal_advice(
    written: tuple[Path, Outcome],
) -> None:
    # given what `check` shows a person
    shown = call("check", written[0]).output
    # when it is read as a whole
    text = " ".join(shown.split())
    # then it says what it is not
    assert "not legal advice" in text


def test_check_says_what_to_obtain_and_in_which_order(sample: Path) -> None:
    # given a plan without the papers that say what China's data are, and that let them go
    for paper in (
        *sample.glob("regions/*/approvals/cac.assessment*"),
        *sample.glob("regions/*/approvals/cn.derived_determination*"),
    ):
        paper.unlink()
    # when the plan is judged
    shown, machine = call("check", sample), call("check", sample, "--json")
    # then each paper is told once, the determination first, and who else must act
    steps = [step.partition(" held by ")[0] for step in machine.json["steps"]]
    assert steps == [
        f"{paper} CN > {place}"
        for paper in ("cn.derived_determination", "cac.assessment")
        for place in ("EU", "US")
    ]
    assert [step.endswith("(government)") for step in machine.json["steps"]] == [
        False,
        False,
        True,
        True,
    ]
    for number, step in enumerate(machine.json["steps"], 1):
        assert f"{number}. {step}" in shown.output


def test_check_says_what_the_attested_chips_amount_to(sample: Path) -> None:
    # given an agreement that lists the chips of its Chinese region
    for file in sample.glob("regions/*/agreement/federation.toml"):
        before, region, rest = file.read_text().partition('id = "cn"')
        own, following, others = rest.partition("\n[")
        own = own.replace('hardware = "uncontrolled"', 'hardware = "attested"')
        lot = f'\n[[regions.chips]]\nmodel = "H100"\ncount = 8\nevidence = "sha256:{"e5" * 32}"\n'
        file.write_text(before + region + own + lot + following + others)
    # when the plan is judged
    shown, machine = call("check", sample), call("check", sample, "--json")
    # then training there is refused, and both say which chip it is and why
    assert (shown.status, machine.status) == (1, 1)
    refused = {rule for row in machine.json["crossings"] for rule in row["rules"]}
    assert "US-EAR-3A090" in refused
    assert [line.partition(":")[0] for line in machine.json["hardware"]] == ["cn"]
    assert "H100" in machine.json["hardware"][0]
    assert "H100" in shown.output


def test_check_stops_at_a_conflict_of_laws_and_names_both(sample: Path) -> None:
    # given a Chinese region that trains on Chinese chips, in a federation with an American one
    for file in sample.glob("regions/*/agreement/federation.toml"):
        before, region, rest = file.read_text().partition('id = "cn"')
        rest = rest.replace('hardware = "uncontrolled"', 'hardware = "prc_3a090"', 1)
        file.write_text(before + region + rest)
    # when the plan is judged
    shown, machine = call("check", sample), call("check", sample, "--json")
    # then what such chips made is refused with both laws, and no way out is chosen
    assert (shown.status, machine.status) == (1, 1)
    stopped = [row for row in machine.json["crossings"] if row["conflicts"]]
    assert stopped
    for row in stopped:
        (conflict,) = row["conflicts"]
        assert conflict.startswith("US-EAR-GP10 (736.2(b)(10)")
        assert "conflict of laws with Chinese counter-sanctions law" in conflict
        assert row["cures"] == []
    assert "conflict of laws with Chinese counter-sanctions law" in " ".join(shown.output.split())


def registered(facts: Path, operator: str, owners: dict[str, float], seat: str = "US") -> None:
    """Give an operator other owners, of whom each is a company of `seat` in dispersed hands."""
    text = facts.read_text()
    at = re.findall(r'^at = "(.+)"', text, re.MULTILINE)[0]
    held = ", ".join(f'{{ name = "{name}", percent = {n} }}' for name, n in owners.items())
    own = f'owners = [{{ name = "{operator} Holding (SAMPLE)", percent = 100 }}]'
    assert text.count(own) == 1
    rows = [
        f'[[screenings]]\nname = "{name}"\nseat = "{seat}"\nat = "{at}"\ncn_listed = false\n'
        f"us_listed = {str(name.startswith('Listed')).lower()}\ndispersed = 100\n"
        for name in owners
        if name != "Stranger"
    ]
    facts.write_text("\n".join((text.replace(own, f"owners = [{held}]"), *rows)))


AMERICA = "Sample Motors of America, Inc."


def test_check_says_which_owners_stand_in_the_way(sample: Path) -> None:
    # given an American operator that listed parties own by half, and one that nobody has screened
    owners = {"Listed & Sons": 40.5, "Stranger": 9.5, "Clean": 50}
    for facts in sample.glob("regions/*/facts.toml"):
        registered(facts, AMERICA, owners)
    # when the plan is judged
    shown, machine = call("check", sample), call("check", sample, "--json")
    # then what it takes part in is refused, and both say who owns it and what they do not know
    assert (shown.status, machine.status) == (1, 1)
    refused = {rule for row in machine.json["crossings"] for rule in row["rules"]}
    assert refused == {"US-EAR-50PCT"}
    assert machine.json["ownership"] == [
        (
            f"us: {AMERICA}: treated as listed: 40.5 % Listed & Sons (listed) + "
            "9.5 % Stranger (never screened)"
        ),
        f"us: {AMERICA}: never screened: Stranger",
    ]
    for line in machine.json["ownership"]:
        assert line in shown.output


def test_check_names_the_home_that_has_registered_other_owners(sample: Path) -> None:
    # given one region that has registered a quarter of listed owners
    registered(sample / "regions/cn/facts.toml", AMERICA, {"Listed": 25, "Clean": 75}, seat="EU")
    # when the plan is judged, of all and of that one
    everybody = call("check", sample, "--json").json["ownership"]
    alone = call("check", sample / "regions/cn", "--json").json["ownership"]
    # then the line names it where others see something else
    (line,) = alone
    assert line == f"us: {AMERICA}: 25 % held by listed parties: 25 % Listed (listed)"
    assert everybody == [f"{line} [facts of cn]"]


def test_check_asks_where_a_partners_parent_sits_as_well(sample: Path) -> None:
    # given an American region that a subsidiary of a Chinese company operates, as all have agreed
    for file in sample.glob("regions/*/agreement/federation.toml"):
        before, region, rest = file.read_text().partition('id = "us"')
        file.write_text(before + region + rest.replace('parent = "US"', 'parent = "CN"', 1))
    for facts in sample.glob("regions/*/facts.toml"):
        registered(facts, AMERICA, {"Partner Group": 100}, seat="CN")
    # when the plan is judged
    rows = call("check", sample, "--json").json["crossings"]
    # then models that it is handed are exports to China, too
    handed = [row for row in rows if row["recipient"] == "us" and row["kind"] == "release"]
    assert handed
    for row in handed:
        assert not row["permitted"]
        assert (
            any(" > CN held by" in step for route in row["cures"] for step in route) or row["bars"]
        )


def test_check_refuses_steps_whose_parties_have_another_parent_than_agreed(sample: Path) -> None:
    # given an American operator that a European company owns, by the facts of every region
    for facts in sample.glob("regions/*/facts.toml"):
        registered(facts, AMERICA, {"Other": 100}, seat="EU")
    # when the plan is judged
    shown, machine = call("check", sample), call("check", sample, "--json")
    # then its steps are refused, with both seats and what to do, and nothing breaks
    assert (shown.status, machine.status) == (1, 1)
    rows = [row for row in machine.json["crossings"] if "us" in (row["sender"], row["recipient"])]
    assert rows
    for row in rows:
        assert (row["permitted"], row["rules"], row["cures"]) == (False, [], [])
        assert row["bars"] == [
            (
                "ownership: region us: the agreement has the ultimate parent of its operator in "
                f"US, the registered owners lead to EU ({AMERICA} < Other); correct the owners in "
                'facts.toml, or agree on parent = "EU"'
            )
        ]
    assert "no cure: ownership" in " ".join(shown.output.split())
    # and what one region lacks is told with its papers
    listed = call("approvals", "list", "--home", sample / "regions/us", "--json")
    assert listed.status == 1
    assert {tuple(lack["rules"]) for lack in listed.json["missing"]} == {("ownership",)}


def test_check_refuses_to_judge_regions_that_hold_different_agreements(sample: Path) -> None:
    # given a region whose agreement has one letter of a comment in another case
    file = sample / "regions/us/agreement/federation.toml"
    file.write_bytes(file.read_bytes().replace(b"# The federation", b"# the federation", 1))
    # when the plan is judged
    outcome = call("check", sample)
    # then that is a fault, and each region's digest is named
    assert outcome.status == 2
    assert "the regions hold different agreements" in outcome.error
    assert outcome.error.count("sha256:") == 4


@pytest.mark.parametrize("region", ["hub", "cn"])
def test_status_of_a_region_that_has_not_started(sample: Path, region: str) -> None:
    # given a region that has signed, and nothing else
    home = sample / "regions" / region
    # when it is asked how it stands
    shown, machine = call("status", "--home", home), call("status", "--home", home, "--json")
    # then it knows of a signature, of no round and of no release
    assert shown.status == machine.status == 0
    assert machine.json["entries"] == {"agreement": 1}
    (line,) = machine.json["lineages"]
    assert (line["lineage"], line["round"], line["model"]) == ("world", 0, "")
    assert machine.json["updates_used"] == 0
    assert "world" in shown.output


# ── agree ──


def test_agree_refuses_terms_that_name_another_regions_keys(sample: Path) -> None:
    # given an agreement in which China's statement key is Germany's
    text = (sample / "federation.toml").read_text()
    keys = re.findall(r'^statement_key = "(.+)"$', text, re.MULTILINE)
    china, germany = keys[1:3]
    swap = {china: germany, germany: china}
    agreement = sample / "swapped.toml"
    agreement.write_text(re.sub("|".join(map(re.escape, swap)), lambda m: swap[m[0]], text))
    (sample / "regions/cn/agreement/federation.toml").unlink()
    # when China should sign it
    outcome = call("agree", agreement, "--home", sample / "regions/cn")
    # then it does not, and holds nothing
    assert outcome.status == 2
    assert "names another statement key for cn" in outcome.error
    assert not (sample / "regions/cn/agreement/federation.toml").exists()


def test_agree_refuses_what_is_no_successor(sample: Path) -> None:
    # given an agreement that differs from the one held and names no predecessor
    agreement = sample / "other.toml"
    agreement.write_text((sample / "federation.toml").read_text() + "\n# one more line\n")
    # when China should sign it
    outcome = call("agree", agreement, "--home", sample / "regions/cn")
    # then it holds what it held
    assert outcome.status == 2
    assert "expected predecessor sha256:" in outcome.error
    held = (sample / "regions/cn/agreement/federation.toml").read_bytes()
    assert held == (sample / "federation.toml").read_bytes()


def test_agree_takes_a_successor(sample: Path) -> None:
    # given an agreement that names the one held, and raises the last round
    before = call("status", "--home", sample / "regions/cn", "--json").json
    text = (sample / "federation.toml").read_text()
    successor = text.replace('predecessor = ""', f'predecessor = "{before["agreement"]}"')
    agreement = sample / "successor.toml"
    agreement.write_text(successor.replace("until_round = 3", "until_round = 9"))
    # when China signs it
    outcome = call("agree", agreement, "--home", sample / "regions/cn", "--json")
    # then it holds it, its log has both signatures, and still verifies
    after = call("status", "--home", sample / "regions/cn", "--json").json
    assert outcome.json == {"agreement": after["agreement"], "region": "cn"}
    assert after["agreement"] != before["agreement"]
    assert after["lineages"][0]["until_round"] == 9
    assert after["entries"] == {"agreement": 2}
    assert call("log", "verify", sample / "regions/cn").status == 0
