"""Training scripts and their gateway: whole rounds, refusals, crashes and restarts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.site.site_world import (
    MODEL,
    UPDATE_LAYOUT,
    WELCOME,
    Aside,
    Region,
    digest,
    evaluate,
    open_descriptors,
    train,
    welcomed,
)

from ringfence.core.errors import (
    ConfigError,
    FormatError,
    LayoutError,
    NotFiniteError,
    Refused,
    StateError,
)
from ringfence.core.ids import Digest
from ringfence.core.site_wire import (
    Evaluated,
    Hello,
    SiteGone,
    Submitted,
    SubmittedUpdate,
    Welcome,
)
from ringfence.net.site_socket import SiteLink, SiteListener
from ringfence.site import frames
from ringfence.site.connect import code_digest, connect
from ringfence.site.session import Evaluation, Outcome, Round, Session
from ringfence.site.state import load_state, save_state

SCRIPT = """
    import numpy as np
    import ringfence

    def evaluate(weights, state):
        correct = float(weights["scale"]) + float(state["seen"][0])
        return ringfence.Evaluation(metrics={"accuracy": correct}, examples=20)

    session = ringfence.connect(evaluate=evaluate)
    for round in session.rounds():
        seen = round.state.get("seen", np.zeros(1, np.int64)) + 1
        step = np.float32(round.settings["lr"])
        after = {name: np.asarray(w + step) for name, w in round.weights.items()}
        round.submit(after, examples=10, metrics={"loss": 0.25}, state={"seen": seen})
    print("complete")
"""

ENDLESS = """
    import time, ringfence
    for round in ringfence.connect().rounds():
        time.sleep(60)
"""


def take(link: SiteLink, region: Region, number: int = 0, **order: str) -> SubmittedUpdate:
    """Have a site train a round, and insist on its update."""
    taken = link.train(
        train(number, **order), model_fd=region.model_fd, update_bytes=UPDATE_LAYOUT.size_bytes
    )
    assert isinstance(taken, SubmittedUpdate)
    return taken


def serve_one(listener: SiteListener, region: Region) -> bytes:
    """Take one site's first round and return its update."""
    with welcomed(listener) as link:
        taken = take(link, region)
        link.acknowledge()
    payload = taken.values().tobytes()
    taken.close()
    return payload


def plus_one(round_: Round) -> Outcome:
    """Submit the weights, each with 1 added."""
    after = {name: np.asarray(weight + 1) for name, weight in round_.weights.items()}
    return round_.submit(after, examples=3)


def first_round(session: Session) -> Round:
    return next(session.rounds())


def test_a_script_trains_evaluates_and_trains_on_with_its_state(
    region: Region, listener: SiteListener
) -> None:
    # given a script in a process of its own
    with region.script(SCRIPT) as script:
        link = welcomed(listener)
        # when it trains a round, measures the candidate and trains on
        first = take(link, region, 0)
        link.acknowledge()
        state = first.message.state_out
        measured = link.evaluate(evaluate(0, state_in=state), model_fd=region.model_fd)
        second = take(link, region, 1, state_in=state)
        link.acknowledge()
        link.done()
        said, trouble = script.communicate(timeout=20)
    # then it declared its code and what it started from, and its update is y - x
    assert link.hello == Hello(
        code=code_digest(region.home / "train.py"), script="train.py", evaluates=True
    )
    assert first.message.base == digest("release 0")
    assert (first.message.examples, first.message.metrics) == (10, {"loss": 0.25})
    np.testing.assert_array_equal(first.values(), np.full(7, 0.5, np.float32))
    assert isinstance(measured, Evaluated)
    assert (measured.metrics, measured.examples) == ({"accuracy": 3.0}, 20)
    # and its state went on from round to round
    assert second.message.state_in == state
    held = load_state(region.home / "site" / "state", Digest(second.message.state_out))
    assert held["seen"].tolist() == [2]
    assert (said, trouble, script.returncode) == ("complete\n", "", 0)
    first.close()
    second.close()


def test_a_round_shows_the_model_without_a_copy_and_read_only(
    region: Region, listener: SiteListener
) -> None:
    # given a session
    gateway = Aside(lambda: serve_one(listener, region))
    with region.connect() as session:
        # when a round comes
        round_ = first_round(session)
        # then it holds the whole model, read-only, and the settings as agreed
        assert {name: w.tolist() for name, w in round_.weights.items()} == {
            name: w.tolist() for name, w in MODEL.items()
        }
        assert not any(w.flags.writeable or w.flags.owndata for w in round_.weights.values())
        assert dict(round_.settings) == {"lr": 0.5, "epochs": 2, "name": "demo"}
        assert (round_.lineage, round_.number, dict(round_.state)) == ("world", 0, {})
        assert (session.region, session.federated) == ("cn", ("fc.weight", "scale"))
        plus_one(round_)
    gateway.result()


def test_a_refusal_reaches_the_script_and_the_next_round_goes_on(
    region: Region, listener: SiteListener
) -> None:
    # given a gateway that refuses the first update and takes the second
    late = Refused(stage="take", reason="late", detail="the round is over", rules=("EU-1",))

    def refuse_then_take() -> None:
        link = welcomed(listener)
        take(link, region, 0).close()
        link.reject(late)
        take(link, region, 1).close()
        link.acknowledge()
        link.done()

    gateway = Aside(refuse_then_take)
    with region.connect() as session:
        rounds = session.rounds()
        # when the script submits both
        with pytest.raises(Refused) as refusal:
            plus_one(next(rounds))
        outcome = plus_one(next(rounds))
        # then it learns why, and goes on to the end
        assert vars(refusal.value) == vars(late)
        assert outcome is Outcome.ACKNOWLEDGED
        assert list(rounds) == []
    gateway.result()


def test_a_gateway_that_wants_no_more_of_a_script_ends_its_rounds(
    region: Region, listener: SiteListener
) -> None:
    # given a script that waits for a round
    def serve() -> None:
        with welcomed(listener) as link:
            link.reject(Refused(stage="take", reason="site-bad-message", detail="too old"))

    gateway = Aside(serve)
    # when the gateway rejects it, as it does when it cannot read a message
    with region.connect() as session, pytest.raises(Refused, match="too old"):
        first_round(session)
    # then (above) the script ends with the reason, and does not dial again
    gateway.result()


def test_a_script_that_is_killed_is_gone_and_the_next_one_gets_its_round(
    region: Region, listener: SiteListener
) -> None:
    # given a script in the middle of a round
    with region.script(ENDLESS) as script:
        link = welcomed(listener)
        gateway = Aside(
            lambda: link.train(
                train(), model_fd=region.model_fd, update_bytes=UPDATE_LAYOUT.size_bytes
            )
        )
        # when it is killed
        script.kill()
        gone = gateway.result()
    # then the gateway sees that, and another script trains the same round
    assert isinstance(gone, SiteGone)
    assert "train.py went away in world round 0" in gone.why
    with region.script(SCRIPT), welcomed(listener) as link:
        take(link, region).close()


def test_an_update_that_was_not_acknowledged_is_offered_again_byte_for_byte(
    region: Region,
) -> None:
    # given a gateway that dies between taking an update and acknowledging it
    calls: list[int] = []

    def two_lives() -> tuple[bytes, bytes]:
        with SiteListener(region.socket_path) as listener:
            link = welcomed(listener)
            first = take(link, region)
        link.close()
        with SiteListener(region.socket_path) as listener:
            link = welcomed(listener)
            # an evaluation may come before the round is offered again
            link.evaluate(evaluate(), model_fd=region.model_fd)
            second = take(link, region)
            link.acknowledge()
            link.done()
        payloads = first.values().tobytes(), second.values().tobytes()
        first.close()
        second.close()
        return payloads

    gateway = Aside(two_lives)

    def measure(weights: object, state: object) -> Evaluation:
        calls.append(1)
        return Evaluation(metrics={}, examples=1)

    # when the script submits once
    with region.connect(measure) as session:
        rounds = session.rounds()
        outcome = plus_one(next(rounds))
        rest = list(rounds)
    first, second = gateway.result()
    # then the restarted gateway got the same bytes and nothing was trained twice
    assert first == second
    assert (outcome, rest, calls) == (Outcome.ACKNOWLEDGED, [], [1])


@pytest.mark.parametrize("ended", [False, True])
def test_a_restarted_gateway_may_go_on_to_something_else(region: Region, ended: bool) -> None:
    # given a gateway that dies with an update and then wants another round, or none
    def two_lives() -> None:
        with SiteListener(region.socket_path) as listener:
            link = welcomed(listener)
            take(link, region, 0).close()
        link.close()
        with SiteListener(region.socket_path) as listener:
            link = welcomed(listener)
            if not ended:
                take(link, region, 1).close()
                link.acknowledge()
            link.done()

    gateway = Aside(two_lives)
    # when the script submits round after round
    with region.connect() as session:
        seen = [(round_.number, plus_one(round_)) for round_ in session.rounds()]
    gateway.result()
    # then the first round is superseded and no round is lost or trained twice
    rest = [] if ended else [(1, Outcome.ACKNOWLEDGED)]
    assert seen == [(0, Outcome.SUPERSEDED), *rest]


def test_a_script_waits_for_its_gateway_while_that_restarts(region: Region) -> None:
    # given a script between two rounds, and a gateway that goes down
    def two_lives() -> None:
        with SiteListener(region.socket_path) as listener:
            link = welcomed(listener)
            take(link, region, 0).close()
            link.acknowledge()
        link.close()
        with SiteListener(region.socket_path) as listener:
            link = welcomed(listener)
            take(link, region, 1).close()
            link.acknowledge()
            link.done()

    gateway = Aside(two_lives)
    # when it is up again
    with region.connect() as session:
        seen = [(round_.number, plus_one(round_)) for round_ in session.rounds()]
    gateway.result()
    # then the script goes on by itself
    assert seen == [(0, Outcome.ACKNOWLEDGED), (1, Outcome.ACKNOWLEDGED)]


def test_no_gateway_is_an_error_that_says_what_to_start(region: Region) -> None:
    # given nobody who listens
    # when a script connects and its patience ends
    with pytest.raises(ConfigError, match="start `ringfence gateway`"):
        region.connect(patience_s=0.1)
    # then (above) it says so


def test_a_script_outside_of_ringfence_train_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given no word of where the gateway is
    monkeypatch.delenv("RINGFENCE_SOCKET", raising=False)
    # when a script connects
    with pytest.raises(ConfigError, match="ringfence train SCRIPT"):
        connect()
    # then (above) it says so


def test_a_script_must_submit_each_round_once(region: Region, listener: SiteListener) -> None:
    # given a script with one round submitted and the next in hand
    def serve() -> None:
        with welcomed(listener) as link:
            take(link, region, 0).close()
            link.acknowledge()
            link.train(train(1), model_fd=region.model_fd, update_bytes=UPDATE_LAYOUT.size_bytes)

    gateway = Aside(serve)
    with region.connect() as session:
        rounds = session.rounds()
        round_ = next(rounds)
        plus_one(round_)
        next(rounds)
        # when it submits the first again, and asks for a third without a second
        with pytest.raises(ConfigError, match="got a second"):
            plus_one(round_)
        with pytest.raises(ConfigError, match="round 1: expected a submit"):
            next(rounds)
    # then (above) each is refused
    gateway.result()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"tensors": {"scale": MODEL["scale"]}}, LayoutError, "fc.weight, got NoneType"),
        ({"tensors": {**MODEL, "pictures": np.ones(3)}}, LayoutError, "pictures"),
        ({"tensors": {**MODEL, "fc.weight": np.ones((2, 3), "f4")}}, LayoutError, r"\[3, 2\]"),
        ({"tensors": {**MODEL, "fc.weight": np.ones((3, 2))}}, LayoutError, "got float64"),
        ({"tensors": {**MODEL, "fc.weight": np.ones((3, 2), ">f4")}}, LayoutError, r"got >f4\["),
        ({"tensors": {**MODEL, "scale": 2.0}}, LayoutError, "got float"),
        ({"metrics": {"loss": float("nan")}}, NotFiniteError, "metric loss"),
        ({"examples": -1}, ConfigError, "got -1"),
        ({"examples": 2.5}, ConfigError, "got 2.5"),
        ({"state": {"bn": np.array(["text"])}}, LayoutError, "tensor bn"),
        ({"state": {"bn mean": np.ones(1)}}, LayoutError, "rename it"),
        ({"metrics": {"m" * 300_000: 1.0}}, FormatError, "at most 262144 bytes"),
    ],
)
def test_a_wrong_argument_is_an_error_and_hands_nothing_over(
    region: Region,
    listener: SiteListener,
    change: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    # given a round
    gateway = Aside(lambda: serve_one(listener, region))
    with region.connect() as session:
        round_ = first_round(session)
        before = open_descriptors()
        arguments: dict[str, object] = {"tensors": MODEL, "examples": 3, **change}
        # when it is submitted with a wrong argument
        with pytest.raises(error, match=words):
            round_.submit(**arguments)  # type: ignore[arg-type]
        # then nothing leaked (the gateway's thread may have closed some of its own meanwhile; what
        # is only too long to send has been written, to the memory that the session keeps), and the
        # right ones are still taken
        assert open_descriptors() <= before + (error is FormatError)
        assert round_.submit(MODEL, examples=3) is Outcome.ACKNOWLEDGED
    assert not np.frombuffer(gateway.result(), "<f4").any()


def test_state_that_does_not_match_its_digest_stops_the_script(
    region: Region, listener: SiteListener
) -> None:
    # given a stored state in which one bit has flipped
    directory = region.home / "site" / "state"
    state_in = save_state(directory, {"bn": np.ones(4)})
    (path,) = directory.iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    order = train(1, state_in=state_in)
    gateway = Aside(
        lambda: welcomed(listener).train(order, model_fd=region.model_fd, update_bytes=28)
    )
    # when the gateway wants training from it
    with region.connect() as session, pytest.raises(StateError, match="restore the file"):
        first_round(session)
    # then (above) the script stops before it trains
    assert isinstance(gateway.result(), SiteGone)


def test_a_gateway_that_agreed_to_another_model_is_an_error(
    region: Region, listener: SiteListener
) -> None:
    # given a gateway whose layout has changed under a running script
    order = train()
    other = type(order)(
        **{name: getattr(order, name) for name in order.__struct_fields__ if name != "layout"},
        layout=digest("another layout"),
    )
    gateway = Aside(
        lambda: welcomed(listener).train(other, model_fd=region.model_fd, update_bytes=4)
    )
    # when it wants a round
    with region.connect() as session, pytest.raises(LayoutError, match="restart the script"):
        first_round(session)
    # then (above) the script stops
    assert isinstance(gateway.result(), SiteGone)


def test_a_model_file_without_an_agreed_tensor_is_an_error(
    region: Region, listener: SiteListener
) -> None:
    # given a gateway that hands over something else than the model
    with (region.home / "other").open("w+b") as other:
        other.write(b"\x08" + bytes(7) + b"{}      ")
        other.flush()
        gateway = Aside(
            lambda: welcomed(listener).train(train(), model_fd=other.fileno(), update_bytes=4)
        )
        # when a round comes
        with region.connect() as session, pytest.raises(FormatError, match="1 to 65536 tensors"):
            first_round(session)
        # then (above) the script stops
        assert isinstance(gateway.result(), SiteGone)


def test_a_script_without_evaluate_is_told_to_pass_one(
    region: Region, listener: SiteListener
) -> None:
    # given a script that cannot evaluate and says that it can
    gateway = Aside(lambda: welcomed(listener).evaluate(evaluate(), model_fd=region.model_fd))
    # when a candidate is to be measured
    with region.connect() as session, pytest.raises(ConfigError, match="pass evaluate="):
        first_round(session)
    # then (above) the script stops
    assert isinstance(gateway.result(), SiteGone)


@pytest.mark.parametrize("message", [WELCOME, Submitted(lineage="world", round=9)])
def test_an_answer_to_another_question_stops_the_script(
    region: Region, listener: SiteListener, message: Welcome | Submitted
) -> None:
    # given a gateway that answers out of turn
    def serve() -> None:
        with welcomed(listener) as link:
            take(link, region).close()
            layout = [region.model_fd] if isinstance(message, Welcome) else []
            frames.send(link._connection, message, layout)

    gateway = Aside(serve)
    with region.connect() as session:
        round_ = first_round(session)
        # when a script waits for the word on its update
        with pytest.raises(FormatError, match="expected Submitted"):
            plus_one(round_)
    # then (above) it stops
    gateway.result()


def test_many_rounds_leak_no_descriptor(region: Region, listener: SiteListener) -> None:
    # given a session after its first round
    held: list[int] = []

    def serve() -> None:
        link = welcomed(listener)
        for number in range(20):
            take(link, region, number).close()
            link.acknowledge()
            link.evaluate(evaluate(number), model_fd=region.model_fd)
        link.done()

    gateway = Aside(serve)
    with region.connect(lambda weights, state: Evaluation(metrics={}, examples=1)) as session:
        # when many rounds and evaluations follow
        for round_ in session.rounds():
            held.append(open_descriptors())
            plus_one(round_)
    gateway.result()
    # then no more descriptors are open than at the second round
    assert max(held[1:]) <= held[1]
