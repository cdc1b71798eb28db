"""`ringfence lineage`: what a release came of, what reached it, and where it may be deployed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ringfence.cli.auditing import read_audit
from ringfence.config import Home
from ringfence.core.errors import Refused
from ringfence.crossing.affected import Affected, Trace
from ringfence.crossing.deployment import Deployer, deployers, deployment
from ringfence.crossing.descent import Descent, Model, Update, descent, find_release
from ringfence.crossing.law import Law
from ringfence.opening import open_law, read_agreement, revoked_papers
from ringfence.policy.judge import Verdict

_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How a revoked paper reached the release; `path` begins where it was relied on."""

    approval: str
    statement: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedUpdate:
    """One update of a release; all but `payload` are empty where another region's log tells.

    `affected` are the revoked papers that have reached it.
    """

    region: str
    jurisdiction: str
    round: int
    statements: tuple[str, ...]
    payload: str
    tags: tuple[str, ...]
    states: tuple[str, ...]
    affected: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A release in the line, or the start of a lineage; `parent` is empty where the line ends.

    `branches` says that the parent is of another lineage; `affected` are the revoked papers that
    have reached it, or a statement under which the hub sent it to a region.
    """

    release: str
    model: str
    agreement: str
    parent: str
    branches: bool
    tags: tuple[str, ...]
    updates: tuple[MergedUpdate, ...]
    affected: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """One rule that refuses a deployment."""

    rule: str
    citation: str
    detail: str
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Whether `region`'s operator may deploy in `market`; `target` says whether that was agreed."""

    market: str
    region: str
    target: bool
    permitted: bool
    why: tuple[Why, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One release: its ancestry, newest first, and the market by market answer of the law."""

    release: str
    model: str
    tags: tuple[str, ...]
    ancestry: tuple[Ancestor, ...]
    affected: tuple[Reach, ...]
    deployments: tuple[Deployment, ...]

    @property
    def deployable(self) -> bool:
        """Whether anybody may deploy it anywhere."""
        return any(each.permitted for each in self.deployments)

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "deployable": self.deployable}


def trace_release(home: Home, text: str) -> Traced:
    """Trace the release that `text` names in this region's log, and ask this region's packs.

    Raises: ConfigError when `text` names no release or several, or law, papers or facts cannot be
    read; LogError when the log does not hold.
    """
    graph = descent(read_audit(home))
    model = find_release(graph, text)
    agreement = read_agreement(home)
    law = open_law(home, agreement)
    affected = Affected(graph, revoked_papers(home, agreement))
    return Traced(
        release=str(model.id),
        model=model.digest,
        tags=model.tags,
        ancestry=tuple(_ancestor(graph, affected, each) for each in _line(graph, model)),
        affected=_reaches(affected.release_traces(model.id)),
        deployments=tuple(
            _deployment(law, model, affected, deployer)
            for deployer in deployers(law, model.id.lineage)
        ),
    )


def _line(graph: Descent, model: Model) -> Iterator[Model]:
    """The release, its parent, and so on to the first start."""
    found: Model | None = model
    while found is not None:
        yield found
        found = graph.models[found.parent] if found.parent else None


def _ancestor(graph: Descent, affected: Affected, model: Model) -> Ancestor:
    return Ancestor(
        release=str(model.id),
        model=model.digest,
        agreement=model.agreement,
        parent=_parent(model),
        branches=model.branches,
        tags=model.tags,
        updates=tuple(_update(graph.updates[each], affected) for each in model.updates),
        affected=affected.release_papers(model.id),
    )


def _parent(model: Model) -> str:
    """Its name, or where this log does not hold it, its digest."""
    return str(model.parent) if model.parent else model.parent_digest


def _update(update: Update, affected: Affected) -> MergedUpdate:
    known = bool(update.jurisdiction)
    return MergedUpdate(
        region=update.id.region if known else "",
        jurisdiction=update.jurisdiction,
        round=update.id.round,
        statements=tuple(said.digest for said in update.statements),
        payload=update.payload,
        tags=update.tags,
        states=update.states,
        affected=affected.papers(update.id),
    )


def _reaches(traces: tuple[Trace, ...]) -> tuple[Reach, ...]:
    return tuple(
        Reach(
            approval=trace.approval,
            statement=trace.statement,
            path=tuple(str(item) for item in trace.path),
        )
        for trace in traces
    )


def _deployment(law: Law, model: Model, affected: Affected, deployer: Deployer) -> Deployment:
    try:
        why = _why(law.judge.judge(deployment(law, model, affected, deployer)))
    except Refused as refused:
        # The facts contradict one another, and no pack is asked.
        cure = refused.detail
        why = (Why(rule=refused.reason, citation="facts.toml", detail="", cure=cure),)
    target = law.agreement.lineage(model.id.lineage).target
    return Deployment(
        market=deployer.market,
        region=deployer.region,
        target=target is not None and deployer.market in target.countries,
        permitted=not why,
        why=why,
    )


def _why(verdict: Verdict) -> tuple[Why, ...]:
    return tuple(
        Why(rule=note.id, citation=note.cite, detail=note.detail, cure=note.remedy)
        for note in verdict.rules
    )


# ── for a person ──


def render_lineage(traced: Traced) -> RenderableType:
    """The ancestry as a tree, what has reached the release, and the markets as a table."""
    parts: list[RenderableType] = [_tree(traced)]
    if traced.affected:
        parts.append(_reached(traced))
    return Group(
        *parts,
        _markets(traced),
        "Legal packs are engineering input, not legal advice: counsel in each jurisdiction must "
        "confirm every rule.",
    )


def _tree(traced: Traced) -> Tree:
    """One step to the right for each branch; within a lineage every release comes of the next."""
    root = Tree(Text(f"{traced.release} {traced.model}\ntags: {_listed(traced.tags)}"))
    line = root
    for index, each in enumerate(traced.ancestry):
        before = traced.ancestry[index + 1 :]
        node = line.add(_model_label(each, before))
        for update in each.updates:
            node.add(_update_label(update))
        if each.branches:
            line = node
        elif not before and each.parent:
            node.add(Text(f"from {_short(each.parent)}, which this log does not hold"))
    return root


def _model_label(model: Ancestor, before: tuple[Ancestor, ...]) -> Text:
    label = Text(model.release, style="bold")
    said = f" {_short(model.model)} tags {_listed(model.tags)}"
    if not model.agreement:
        said += f", branches off {_short(model.parent)}" if model.parent else ", start"
    elif model.agreement != next((each.agreement for each in before if each.agreement), ""):
        said += f", first under agreement {_short(model.agreement)}"
    label.append(said, style="default")
    return _marked(label, model.affected)


def _update_label(update: MergedUpdate) -> Text:
    if not update.region:
        return Text(f"update {_short(update.payload)}: whose it is, the hub's log tells")
    label = Text(
        f"update of {update.region} ({update.jurisdiction}) in round {update.round}, statement "
        f"{', '.join(_short(digest) for digest in update.statements)}"
    )
    if update.states:
        label.append(f", from state {', '.join(_short(digest) for digest in update.states)}")
    return _marked(label, update.affected)


def _marked(label: Text, affected: tuple[str, ...]) -> Text:
    if affected:
        label.append(f", affected by {', '.join(affected)}", style="red")
    return label


def _reached(traced: Traced) -> Tree:
    root = Tree(Text("affected by revoked papers", style="red"))
    for each in traced.affected:
        paper = root.add(
            Text(f"{each.approval}, on which statement {_short(each.statement)} relied")
        )
        paper.add(Text(" ▶ ".join(each.path)))
    return root


def _markets(traced: Traced) -> Table:
    table = Table(title="may it be deployed", show_lines=False)
    for column in ("market", "by", "verdict", "rule, citation, cure"):
        table.add_column(column, overflow="fold")
    for row in traced.deployments:
        verdict = "[green]permit[/green]" if row.permitted else "[red]refuse[/red]"
        reasons = [f"{why.rule} ({why.citation}): {why.cure}" for why in row.why]
        if not row.target:
            reasons.append(f"{row.market} is no agreed market of this lineage")
        table.add_row(row.market, row.region, verdict, escape("\n".join(reasons)))
    return table


def _listed(tags: tuple[str, ...]) -> str:
    return " ".join(tags) or "none"


def _short(text: str) -> str:
    """The beginning of a digest, enough to find it by; other names as they are."""
    algorithm, _, value = text.partition(":")
    return f"{algorithm}:{value[:_SHOWN_DIGITS]}" if len(value) == 64 else text
