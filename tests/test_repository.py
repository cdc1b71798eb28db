"""What must hold of the repository as a whole: floors, packaging, locks and documents."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "ringfence"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CODE = sorted(
    p for top in ("src", "tests", "bench", "examples") for p in (ROOT / top).rglob("*.py")
)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

NOT_OF_THE_GATEWAY = ("model_signing", "PIL", "pyarrow", "pytest", "safetensors", "torch")
"""Packages of the extras: what is not installed beside a gateway must not be imported there."""

PICKLES = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
"""Modules that turn bytes into code or into any object at all."""


# ---- floors -----------------------------------------------------------------------------------


def test_the_floors_hold() -> None:
    # given the contracts in pyproject.toml
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    # when import-linter reads every import of the package
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    # then every contract is kept
    assert outcome.returncode == 0, outcome.stdout


def test_a_gateway_loads_nothing_that_its_lock_does_not_hold() -> None:
    # given every module but the hub's and torch's, and a Python without the extras
    modules = [
        m for m in _modules() if not m.startswith(("ringfence.coordinator", "ringfence.torch"))
    ]
    program = (
        f"import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({NOT_OF_THE_GATEWAY!r}))\n"
        f"for name in {modules!r}:\n"
        f"    importlib.import_module(name)\n"
    )
    # when they are imported
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    # then none of them misses one
    assert outcome.returncode == 0, outcome.stderr


def test_no_code_reads_or_writes_a_pickle() -> None:
    # given all the code of the repository
    found = []
    # when each import and each call is looked at
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            found += [f"{path.relative_to(ROOT)}:{node.lineno}" for _ in _pickling(node)]
    # then none can make an object out of bytes
    assert found == []


def test_the_product_holds_no_stub() -> None:
    # given the words that mark unfinished code
    stub = re.compile(r"NotImplementedError|\b(TODO|FIXME|XXX)\b")
    # when the package is searched
    found = [p.relative_to(ROOT) for p in PACKAGE.rglob("*.py") if stub.search(p.read_text())]
    # then no file holds one
    assert found == []


# ---- packaging --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in the wheel, built from a copy so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, copy / "src" / "ringfence", ignore=_no_bytecode)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    program = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", program], cwd=copy, check=True, capture_output=True)
    (path,) = (copy / "dist").glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_holds_every_file_of_the_package(wheel: set[str]) -> None:
    # given the package's files, law packs and samples among them
    files = {p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    # when the wheel's own are set beside them
    packed = {name for name in wheel if name.startswith("ringfence/")}
    # then the two are the same
    assert packed == {p.relative_to(PACKAGE.parent).as_posix() for p in files}


def test_the_wheel_holds_no_data(wheel: set[str]) -> None:
    # given what code, types, law packs, the chip table and the sample script are written in
    known = {".py", ".typed", ".cedar", ".cedarschema", ".toml", ".txt"}
    # when the wheel is looked through
    other = {n for n in wheel if ".dist-info/" not in n and Path(n).suffix not in known}
    # then nothing else lies in it, pictures and tables least of all
    assert other == set()


# ---- locks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("gateway", ()), ("hub", ("hub",)), ("dev", ("hub", "demo", "dev"))],
)
def test_a_lock_satisfies_the_project(lock: str, extras: tuple[str, ...]) -> None:
    # given what pyproject.toml asks for
    optional = PROJECT["optional-dependencies"]
    asked = PROJECT["dependencies"] + [text for extra in extras for text in optional[extra]]
    # when the lock is read
    pins = _pins(lock)
    # then it pins a version of each that will do
    unmet = [
        r for r in map(Requirement, asked) if not r.specifier.contains(pins.get(_name(r), "0"))
    ]
    assert unmet == []


def test_the_three_locks_agree() -> None:
    # given the lock of a checkout
    dev = _pins("dev")
    # when the operators' locks are set beside it
    hub, gateway = _pins("hub"), _pins("gateway")
    # then each is a part of the larger one, pin by pin
    assert gateway.items() <= hub.items() <= dev.items()


@pytest.mark.parametrize("lock", ["gateway", "hub", "dev"])
def test_a_lock_holds_a_hash_for_every_pin_and_names_no_index(lock: str) -> None:
    # given a lock
    text = _lock(lock)
    # when it is cut into its entries
    entries = re.findall(r"^(\S+==.*(?:\n +.*)*)", text, re.MULTILINE)
    # then each entry has a hash, and pip alone decides where files come from
    assert [e.split()[0] for e in entries if "--hash=sha256:" not in e] == []
    assert "://" not in text
    assert not re.search(r"^--", text, re.MULTILINE)


def test_torch_has_one_version() -> None:
    # given torch as the project's extra names it
    (extra,) = PROJECT["optional-dependencies"]["torch"]
    # when the file that set-up installs from is read
    (installed,) = re.findall(r"^torch.*", _lock("torch"), re.MULTILINE)
    # then they name the same version
    assert installed == extra


# ---- documents --------------------------------------------------------------------------------


def test_every_command_stands_in_the_readme() -> None:
    # given the commands that the program has
    commands = _commands()
    # when the README is read
    readme = (ROOT / "README.md").read_text()
    # then it names them all
    assert [c for c in commands if c not in readme] == []


def test_every_make_target_stands_in_contributing() -> None:
    # given the targets that `make help` lists
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    # when CONTRIBUTING.md is read
    text = (ROOT / "CONTRIBUTING.md").read_text()
    # then it names them all
    assert targets
    assert [t for t in targets if f"`make {t}`" not in text] == []


def test_every_reason_for_a_refusal_is_explained() -> None:
    # given the reason codes that the product refuses with
    codes = {code for path in PACKAGE.rglob("*.py") for code in _reasons(path)}
    # when the table of reasons is read
    text = (ROOT / "docs" / "reasons.md").read_text()
    # then it explains these, and no others
    assert set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)) == codes


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    # given a document's links to this repository
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    local = [t for t in targets if "://" not in t and not t.startswith("mailto:")]
    # when each is followed
    broken = [t for t in local if not (document.parent / t).exists()]
    # then it leads somewhere
    assert broken == []


def test_decisions_are_numbered_once() -> None:
    # given the architecture decision records
    numbers = [p.name[:4] for p in (ROOT / "docs" / "adr").glob("*.md")]
    # when their numbers are compared
    twice = {n for n in numbers if numbers.count(n) > 1}
    # then no two share one
    assert twice == set()


# ---- reading the repository -------------------------------------------------------------------


def _modules() -> list[str]:
    """Every importable module of the package; `__main__` modules run instead."""
    parts = [p.relative_to(PACKAGE.parent).with_suffix("").parts for p in PACKAGE.rglob("*.py")]
    names = [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]
    return sorted(n for n in names if not n.endswith("__main__"))


def _pickling(node: ast.AST) -> Iterator[str]:
    """Yield what in `node` pickles: an import, `torch.load` or `save`, numpy's `allow_pickle`."""
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names if a.name.partition(".")[0] in PICKLES)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PICKLES:
        yield node.module or ""
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if (node.value.id, node.attr) in {("torch", "load"), ("torch", "save")}:
            yield f"torch.{node.attr}"
    elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        yield "allow_pickle"


def _reasons(path: Path) -> Iterator[str]:
    """Reason codes in `path`: of `Refused(reason=…)`, and of `_refuse(…)`, which makes one.

    A function that several modules share is called `refuse`.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        given: list[ast.expr] = []
        if node.func.id == "Refused":
            given = [k.value for k in node.keywords if k.arg == "reason"]
        elif node.func.id in ("_refuse", "refuse"):
            given = node.args[:1]
        for value in given:
            if isinstance(value, ast.Constant):
                yield str(value.value)
            elif isinstance(value, ast.JoinedStr):
                yield "".join(_literal_or_name(part) for part in value.values)


def _literal_or_name(part: ast.expr) -> str:
    """`wrong-{field}` is explained as `wrong-FIELD`."""
    if isinstance(part, ast.FormattedValue):
        return ast.unparse(part.value).upper()
    return str(part.value) if isinstance(part, ast.Constant) else ""


def _no_bytecode(_: str, names: list[str]) -> list[str]:
    return [n for n in names if n == "__pycache__"]


def _lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def _pins(lock: str) -> dict[str, str]:
    """Version by canonical name, as the lock pins them."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", _lock(lock), re.MULTILINE))


def _name(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def _commands() -> list[str]:
    """Every command as a person types it, or none while the package has no program."""
    if not (PACKAGE / "cli" / "main.py").exists():
        return []
    app = importlib.import_module("ringfence.cli.main").app
    return sorted(_leaves(typer.main.get_command(app), "ringfence"))


def _leaves(command: object, typed: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if not children:
        yield typed
        return
    for name, child in children.items():
        if not child.hidden:
            yield from _leaves(child, f"{typed} {name}")
