"""What names mean, and which checkpoints are too many."""

from hypothesis import given, settings
from hypothesis import strategies as st

from esper.checkpoint.listing import beside, listing_of, manifest_name, superseded, tensors_name

SOME = st.sets(st.integers(1, 10**12 - 2), max_size=8)


@settings(max_examples=50)
@given(SOME, SOME, SOME, st.sets(st.text(max_size=8), max_size=5))
def test_only_manifests_make_checkpoints_and_only_ours_are_leftovers(
    manifests: set[int], tensors: set[int], writing: set[int], others: set[str]
) -> None:
    values = {tensors_name(number) for number in tensors | manifests}
    half = {beside(name(number)) for number in writing for name in (manifest_name, tensors_name)}
    found = listing_of({*map(manifest_name, manifests), *values, *half, *others})
    assert found.numbers == tuple(sorted(manifests))
    assert set(found.leftovers) == half | {tensors_name(number) for number in tensors - manifests}
    assert len(set(found.leftovers)) == len(found.leftovers)
    assert found.next == max(manifests | tensors | writing, default=0) + 1


@given(st.sets(st.integers(1, 40), max_size=12), st.data(), st.integers(1, 5))
def test_the_newest_sound_ones_stay_and_all_that_is_newer(
    numbers: set[int], data: st.DataObject, keep: int
) -> None:
    sound = data.draw(st.sets(st.sampled_from(sorted(numbers)))) if numbers else set()
    old = superseded(numbers, sound, keep)
    assert old == tuple(sorted(old))
    left = numbers - set(old)
    assert len(left & sound) == min(keep, len(sound))
    assert not old or max(old) < min(left)
    assert not old or min(left) in sound


def test_names_are_read_as_they_are_written_and_in_no_other_spelling() -> None:
    assert (manifest_name(12), tensors_name(12)) == ("00000012.json", "00000012.safetensors")
    assert manifest_name(123456789) == "123456789.json"
    odd = ["12.json", "000000012.json", "00000012.JSON", "00000012.json ", "x00000012.json", "-0000012.json"]
    odd += ["٠٠٠٠٠٠١٢.json", ".00000012.json", "00000012.json.new", "0000000000012.json", "00000012.json\n"]
    assert listing_of(odd) == ((), (), 1)
