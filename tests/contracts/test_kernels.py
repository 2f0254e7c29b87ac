"""A kernel's key is the same wherever, and however, its specification is written down."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contracts.growth import Layout, SiteInfo
from contracts.kernels import Design, KernelSpec, design_of

SITE = SiteInfo("relu1", Layout.SEQUENCE, (4, 19), 4, 2)
SETTINGS = st.dictionaries(st.sampled_from(["width", "rank", "onset"]), st.integers(0, 4096), max_size=3)


@given(SETTINGS, st.integers(0, 2**63 - 1))
def test_the_key_survives_the_way_through_json_and_whole_numbers(settings: dict[str, int], draw: int) -> None:
    spec = KernelSpec(Design("BP003", Layout.SEQUENCE, (4, 19), 4, dict(settings)), draw)
    again = msgspec.json.decode(msgspec.json.encode(spec), type=KernelSpec)
    floats = {name: float(value) for name, value in reversed(settings.items())}
    assert again == spec
    assert again.key == spec.key == KernelSpec(design_of(SITE, "BP003", floats), draw).key
    assert len(spec.key) == 64


def test_what_differs_has_another_key_and_the_sites_name_and_place_do_not_count() -> None:
    design = design_of(SITE, "BP003", {"width": 2.0})
    others = [
        design_of(SITE, "BP003", {"width": 3.0}),
        design_of(SITE, "BP004", {"width": 2.0}),
        design_of(SiteInfo("relu1", Layout.SEQUENCE, (4, 20), 4, 2), "BP003", {"width": 2.0}),
    ]
    assert len({one.key for one in (design, *others)}) == 4
    assert design_of(SiteInfo("other", Layout.SEQUENCE, (4, 19), 4, 0), "BP003", {"width": 2.0}) == design
    assert KernelSpec(design, 1).key != KernelSpec(design, 2).key
    assert (design.site.shape, design.site.layout, design.site.channels) == ((4, 19), Layout.SEQUENCE, 4)
