"""The ancestry graph, held against a slow recursion over histories that were drawn at random."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.crossing.telling import LINEAGES, Name, Telling, model_of, paper_of, telling
from tests.places.founding import MEMBERS, Template
from tests.places.records import asked_anew

from ringfence.core.artifacts import statement_digest
from ringfence.core.errors import ConfigError, LogError
from ringfence.crossing.affected import Affected
from ringfence.crossing.descent import (
    CopyId,
    ItemId,
    ModelId,
    UpdateId,
    descent,
    find_release,
)
from ringfence.crossing.statements import seal_declaration

ROUND = st.tuples(
    st.sampled_from(LINEAGES),
    st.sets(st.sampled_from(MEMBERS), min_size=1),
    st.booleans(),
    st.sets(st.sampled_from(["CN", "EU", "JP", "US"]), max_size=2),
)
HISTORY = st.lists(ROUND, min_size=1, max_size=7)
slowly = settings(max_examples=50, deadline=None)

History = Sequence[tuple[str, set[str], bool, set[str]]]


Teller = Callable[[History], Telling]


@pytest.fixture(scope="module")
def tell(template: Template) -> Teller:
    """Tells the rounds of a history, but those of lineages whose start nobody has released."""

    def tell_it(history: History) -> Telling:
        told = telling(template)
        told.round("world", MEMBERS)
        for lineage, senders, released, state in history:
            if told.may(lineage):
                told.round(lineage, sorted(senders), released=released, state=sorted(state))
        return told

    return tell_it


def named(item: ItemId) -> Name:
    match item:
        case ModelId():
            return ("model", item.lineage, str(item.round))
        case UpdateId():
            return ("update", item.lineage, str(item.round), item.region)
        case CopyId():
            return ("copy", item.model.lineage, str(item.model.round), item.region)


@given(history=HISTORY)
@slowly
def test_the_tags_of_every_model_are_those_of_a_naive_recursion(
    tell: Teller, history: History
) -> None:
    # given a history of rounds, branches and regional states
    told = tell(history)
    # when its log is read
    graph = descent(told.audit())
    # then every model has the tags of everything that it comes of, and no others
    assert len(graph.models) > 1
    for model in graph.models.values():
        assert set(model.tags) == told.naive_tags(named(model.id)), model.id
    # and the regions whose updates are in it are those that the history names
    for model in graph.releases():
        names = {named(item) for item in graph.ancestors(model.id)}
        regions = {name[3] for name in names if name[0] == "update"}
        assert graph.contributors(model.id) == regions


@given(history=HISTORY, chosen=st.integers(min_value=0))
@slowly
def test_a_revoked_paper_reaches_exactly_the_descendants(
    tell: Teller, history: History, chosen: int
) -> None:
    # given a history, and one statement in it whose paper is revoked
    told = tell([(line, who, out, set()) for line, who, out, _ in history])
    graph = descent(told.audit())
    sources = sorted(name for name in told.parents if name[0] != "model")
    source = sources[chosen % len(sources)]
    # when it is asked what the paper has reached
    affected = Affected(graph, [paper_of(source)])
    # then that is the item itself and all that came of it, and the way there is one of descent
    for item in (*graph.models, *graph.updates, *graph.copies):
        traces = affected.traces(item)
        assert bool(traces) == told.naive_reached(named(item), source), (item, source)
        for trace in traces:
            way = [named(step) for step in trace.path]
            assert way[0] == source
            assert way[-1] == named(item)
            for before, after in itertools.pairwise(way):
                assert before in told.parents[after]


@given(history=HISTORY, chosen=st.integers(min_value=0))
@slowly
def test_no_statement_can_leave_out_or_add_a_tag(
    tell: Teller, history: History, chosen: int
) -> None:
    # given a history, and one of its statements with another set of tags, well signed
    told = tell([(line, who, out, set()) for line, who, out, _ in history])
    audit = told.audit()
    seen = [each for each in audit.seen if each.declaration is not None]
    wrong = seen[chosen % len(seen)]
    assert wrong.declaration is not None
    tags = {*wrong.declaration.jurisdictions} ^ {("CN", "EU", "JP", "US")[chosen % 4]}
    declaration = replace(wrong.declaration, jurisdictions=tuple(sorted(tags)))
    # and about that the hub's law was asked, just before
    verdict = asked_anew(told.entries[wrong.index - 1], told.agreement, declaration, "hub")
    asked = ()
    if declaration.sender == "hub":
        note = replace(declaration.verdict, question=verdict.subject)
        declaration = replace(declaration, verdict=note)
    else:
        asked = (verdict.subject,)
    envelope = seal_declaration(declaration, told.signers[declaration.sender])
    digest = statement_digest(envelope)
    story = [
        replace(
            entry, inputs=tuple(digest if i == wrong.entry.subject else i for i in entry.inputs)
        )
        for entry in told.entries
    ]
    story[wrong.index - 1] = verdict
    story[wrong.index] = replace(
        wrong.entry, subject=digest, envelope=envelope.decode(), inputs=asked
    )
    # when, then
    with pytest.raises(LogError, match="jurisdictions"):
        told.audit(story)


def test_a_held_round_is_a_candidate_that_nothing_comes_of(template: Template) -> None:
    # given a round that was held between two that were released
    told = telling(template)
    told.round("world", ("cn", "de"))
    told.round("world", ("us",), released=False)
    told.round("world", ("de",))
    # when the graph is read
    graph = descent(told.audit())
    # then the third is made from the first, and the second is no release
    third = graph.models[ModelId(lineage="world", round=3)]
    assert third.parent == ModelId(lineage="world", round=1)
    assert [model.id.round for model in graph.releases("world")] == [1, 3]
    assert third.tags == ("CN", "EU")
    with pytest.raises(ConfigError, match="holds no release 'world:2'"):
        find_release(graph, "world:2")


def test_a_name_that_fits_two_releases_is_ambiguous(template: Template) -> None:
    # given the starts of two branches of the same bytes, neither of them a release
    told = telling(template)
    for lineage in ("world", "a", "b", "c"):
        told.round(lineage, ("de",))
    graph = descent(told.audit())
    assert model_of("b", 0) == model_of("c", 0) == model_of("a", 1)
    # when it is named by its digest, then the release goes first
    assert str(find_release(graph, model_of("b", 0)).id) == "a:1"
    # when a prefix fits several, then each is named
    starts = {
        ModelId(lineage=line, round=0): graph.models[ModelId(lineage=line, round=0)]
        for line in "bc"
    }
    alone = type(graph)(models=starts, updates={}, copies={}, order=())
    with pytest.raises(ConfigError, match="is ambiguous: it may be b:0, c:0"):
        find_release(alone, model_of("b", 0))
