"""Claims about the ids of what a run tells of itself."""

from actors.witness import RunWitness
from contracts.report import ResumeFacts, RollbackFacts
from esper.moment import WitnessMemory
from tests.actors.witnessing import ids


def test_what_a_resumed_run_tells_again_has_the_same_id_and_nothing_else_has_it() -> None:
    def first(witness: RunWitness) -> None:
        for epoch in (1, 2, 3):
            witness.reached(epoch)
            witness.alert("loud", f"the noise of {epoch}")

    def second(witness: RunWitness) -> None:
        witness.resumed(WitnessMemory(), ResumeFacts(2))
        witness.reached(3)
        witness.alert("new", "a noise that was not there before")
        witness.alert("loud", "the noise of 3")

    told, (resumed, new, again) = ids(first), ids(second)
    assert len(set(told)) == 3
    assert again == told[2]
    assert {resumed, new}.isdisjoint(told)


def test_the_same_words_twice_are_two_events_and_again_after_a_rollback() -> None:
    def speak(witness: RunWitness) -> None:
        witness.reached(2)
        witness.alert("loud", "a noise")
        witness.alert("loud", "a noise")
        witness.rolled_back(WitnessMemory(), RollbackFacts(2, 1, "fast", "a reason", 0.0))
        witness.alert("loud", "a noise")

    one = ids(speak)
    assert len(set(one)) == len(one) == 4
    assert one == ids(speak)
