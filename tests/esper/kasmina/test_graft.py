"""Surgery on the four hosts: what it changes, and all that it does not."""

import contextlib
import copy
import io
import warnings

import pytest
import torch
from torch import Tensor, nn

from contracts.growth import SiteInfo
from esper.kasmina.anchor import SiteError
from esper.kasmina.counterfactual import compare
from esper.kasmina.gauge import gauge
from esper.kasmina.graft import GraftError, Grafts, ungrown_state_dict
from esper.kasmina.isolation import IsolationMonitor
from esper.kasmina.shadow import shadow_backward
from esper.kasmina.stream import RandomStream
from tests.esper.kasmina.trajectory import different, train
from tests.hosts import HOSTS, Host, loss_fn, mean_loss, seed_module, twin

each_host = pytest.mark.parametrize("host", HOSTS, ids=lambda h: h.name)
each_site = pytest.mark.parametrize("which", [0, 1], ids=["upper", "lower"])


def outputs_of(model: nn.Module, inputs: Tensor, training: bool = False) -> Tensor:
    """From the same random state each time; batch norm's statistics come back."""
    probe = copy.deepcopy(model).train(training)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        out: Tensor = probe(inputs)
    return out


def by_hand(
    plain: nn.Module, added: dict[str, list[tuple[float, nn.Module]]], inputs: Tensor, training: bool
) -> Tensor:
    """The plain host's outputs with h + alpha·f(h), one after the other, at each site."""
    model, added = copy.deepcopy((plain, added))

    def growing(seeds: list[tuple[float, nn.Module]]):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: object, h: Tensor) -> Tensor:
            for alpha, seed in seeds:
                h = h + alpha * seed(h)
            return h

        return hook

    for site, seeds in added.items():
        model.get_submodule(site).register_forward_hook(growing(seeds))
        for _, seed in seeds:
            seed.train(training)
    return outputs_of(model, inputs, training)


@each_host
@each_site
def test_inserting_and_all_that_is_done_in_isolation_leaves_the_host_s_run_bit_identical(
    host: Host, which: int
) -> None:
    plain, grafts = host.grafts(), host.grafts()
    site, stream, monitor = grafts.sites[which], RandomStream(0, "s"), IsolationMonitor(grafts)

    def everything(step: int) -> None:
        inputs, targets = host.batch(8, seed=50 + step)
        if step == 1:
            grafts.insert("s#0", site.name, seed_module(site, zero=False))
        if step >= 2:
            with monitor.watching("s#0", inputs, targets, exact=True):
                assert shadow_backward(grafts, "s#0", inputs, targets, loss_fn, stream).finite
            gauge(grafts, "s#0", inputs, targets, loss_fn, stream)
            compare(grafts, "s#0", [(inputs, targets)], mean_loss)
            assert monitor.check(inputs) == ()
            grafts.isolate("s#0")

    assert different(train(plain, host, 5), train(grafts, host, 5, everything)) == []
    assert monitor.violations("s#0") == 0
    assert all(p.grad is not None for _, p in grafts.named_parameters("s#0"))


@each_host
def test_culled_in_isolation_the_run_goes_on_as_if_the_seed_had_never_been(host: Host) -> None:
    plain, grafts = host.grafts(), host.grafts()
    site, stream = grafts.sites[0], RandomStream(0, "s")

    def short_life(step: int) -> None:
        if step == 0:
            grafts.insert("s#0", site.name, seed_module(site, zero=False))
        if step in (0, 1, 2):
            shadow_backward(grafts, "s#0", *host.batch(8, seed=step), loss_fn, stream)
        if step == 3:
            grafts.remove("s#0")

    assert different(train(plain, host, 6), train(grafts, host, 6, short_life)) == []
    assert grafts.cleared("s#0")


@each_host
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_culled_when_live_the_forward_pass_is_the_host_alone_with_its_present_weights(
    host: Host, training: bool
) -> None:
    grafts, inputs = host.grafts(), host.batch(8)[0]
    grafts.insert("s#0", grafts.sites[0].name, seed_module(grafts.sites[0], zero=False))
    grafts.set_alpha("s#0", 1.0)
    train(grafts, host, 3)
    grown = outputs_of(grafts.model, inputs, training)
    grafts.remove("s#0")
    plain = host.model(seed=9)
    plain.load_state_dict(grafts.model.state_dict())
    assert not torch.equal(grown, outputs_of(plain, inputs, training))
    assert torch.equal(outputs_of(grafts.model, inputs, training), outputs_of(plain, inputs, training))


@each_host
@each_site
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_at_every_stage_change_the_output_moves_by_alpha_alone(
    host: Host, which: int, training: bool
) -> None:
    grafts, inputs = host.grafts(), host.batch(8)[0]
    plain, site = copy.deepcopy(grafts.model), grafts.sites[which]
    f = seed_module(site, zero=False)
    grafts.insert("s#0", site.name, f)
    alone = outputs_of(plain, inputs, training)
    for alpha in (0.0, 0.3, 0.7, 1.0, 0.0, 1.0):  # germinated, blending twice, full, shadowing, probationary
        grafts.set_alpha("s#0", alpha)
        expected = by_hand(plain, {site.name: [(alpha, f)]}, inputs, training) if alpha else alone
        assert torch.equal(outputs_of(grafts.model, inputs, training), expected)
        assert torch.equal(expected, alone) == (alpha == 0.0)


@each_host
def test_a_zero_seed_put_live_at_once_changes_no_bit_of_the_output(host: Host) -> None:
    grafts, inputs = host.grafts(), host.batch(8)[0]
    alone = outputs_of(grafts.model, inputs)
    for site in grafts.sites:
        grafts.insert(f"{site.name}#0", site.name, seed_module(site))
        grafts.set_alpha(f"{site.name}#0", 1.0)
    assert torch.equal(outputs_of(grafts.model, inputs), alone)


@each_host
def test_seeds_at_one_site_stack_each_seeing_what_grew_before_it(host: Host) -> None:
    grafts, inputs = host.grafts(), host.batch(8)[0]
    plain, site = copy.deepcopy(grafts.model), grafts.sites[0]
    seeds = [seed_module(site, zero=False, seed=n) for n in range(3)]
    for n, seed in enumerate(seeds):
        grafts.insert(f"s#{n}", site.name, seed)
        grafts.set_alpha(f"s#{n}", (1.0, 0.5, 0.25)[n])
    everything = {site.name: [(1.0, seeds[0]), (0.5, seeds[1]), (0.25, seeds[2])]}
    assert torch.equal(outputs_of(grafts.model, inputs), by_hand(plain, everything, inputs, False))
    grafts.isolate("s#1")
    assert torch.equal(
        outputs_of(grafts.model, inputs),
        by_hand(plain, {site.name: [(1.0, seeds[0]), (0.25, seeds[2])]}, inputs, False),
    )
    grafts.set_alpha("s#1", 0.5)  # back in its old place
    assert torch.equal(outputs_of(grafts.model, inputs), by_hand(plain, everything, inputs, False))


HOST_TENSORS = {
    "mlp": """first.0.weight first.0.bias first.1.weight first.1.bias second.0.weight second.0.bias
        second.1.weight second.1.bias head.weight head.bias""",
    "conv1d": "conv1.weight conv1.bias norm1.weight norm1.bias conv2.weight conv2.bias head.weight head.bias",
    "conv2d": """stem.0.weight stem.0.bias stem.1.weight stem.1.bias block.0.weight block.0.bias
        block.1.weight block.1.bias head.weight head.bias""",
    "transformer": " ".join(
        ["place", "embed.weight"]
        + [
            f"blocks.{n}.{name}.{kind}"
            for n in (0, 1)
            for name, kinds in (
                ("norm1", "weight bias"),
                ("attention", "in_proj_weight in_proj_bias"),
                ("attention.out_proj", "weight bias"),
                ("norm2", "weight bias"),
                ("mix.0", "weight bias"),
                ("mix.3", "weight bias"),
            )
            for kind in kinds.split()
        ]
        + ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    ),
}


@each_host
@each_site
@pytest.mark.parametrize(
    ("stage", "alphas"),
    [("blending", [0.3]), ("probationary", [1.0]), ("fossilized and blending", [1.0, 0.5])],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_in_every_live_stage_every_host_tensor_above_and_below_receives_gradient(
    host: Host, which: int, stage: str, alphas: list[float]
) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(64)
    site = grafts.sites[which]
    for n, alpha in enumerate(alphas):
        grafts.insert(f"s#{n}", site.name, seed_module(site, zero=False, seed=n))
        grafts.set_alpha(f"s#{n}", alpha)
    loss_fn(grafts.model(inputs), targets).backward()
    reached = {
        name for name, p in grafts.host_named_parameters() if p.grad is not None and bool(p.grad.any())
    }
    assert reached == set(HOST_TENSORS[host.name].split())
    for n in range(len(alphas)):
        assert all(
            p.grad is not None and bool(p.grad.any()) for _, p in grafts.named_parameters(f"s#{n}")[-2:]
        )


@each_host
def test_an_isolated_seed_is_not_called_at_all(host: Host) -> None:
    class Poison(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return torch.full_like(h, torch.inf)

    grafts, inputs = host.grafts(), host.batch(8)[0]
    alone = outputs_of(grafts.model, inputs)
    grafts.insert("s#0", grafts.sites[0].name, Poison())
    assert torch.equal(outputs_of(grafts.model, inputs), alone)
    grafts.insert("s#1", grafts.sites[0].name, seed_module(grafts.sites[0]))
    grafts.set_alpha("s#1", 1.0)
    assert torch.equal(outputs_of(grafts.model, inputs), alone)
    grafts.set_alpha("s#0", 0.5)
    assert not outputs_of(grafts.model, inputs).isfinite().all()


@each_host
def test_the_host_s_state_dict_keys_stay_and_checkpoints_load_both_ways(host: Host) -> None:
    plain, grafts = host.model(seed=5), host.grafts()
    keys = list(plain.state_dict())
    for n, site in enumerate(grafts.sites):
        grafts.insert(f"{site.name}#{n}", site.name, seed_module(site, zero=False))
        grafts.set_alpha(f"{site.name}#{n}", 1.0)
    assert [key for key in grafts.model.state_dict() if "esper_graft" not in key] == keys
    assert list(ungrown_state_dict(grafts.model)) == keys

    own = {
        name: p.clone()
        for n, s in enumerate(grafts.sites)
        for name, p in grafts.named_parameters(f"{s.name}#{n}")
    }
    grafts.model.load_state_dict(plain.state_dict(), strict=True)
    state = grafts.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    assert own
    assert all(torch.equal(state[name], value) for name, value in own.items())

    other = host.model(seed=6)
    other.load_state_dict(ungrown_state_dict(grafts.model), strict=True)
    assert torch.equal(outputs_of(other, host.batch(8)[0]), outputs_of(plain, host.batch(8)[0]))


@each_host
def test_a_grown_checkpoint_loads_into_a_model_grown_alike_and_not_into_another(host: Host) -> None:
    grafts, same, other = host.grafts(0), host.grafts(1), host.grafts(1)
    for n, some in enumerate((grafts, same)):
        some.insert("s#0", some.sites[0].name, seed_module(some.sites[0], zero=False, seed=n))
        some.set_alpha("s#0", 0.5)
    state = grafts.model.state_dict()
    same.model.load_state_dict(state)
    assert torch.equal(outputs_of(same.model, host.batch(8)[0]), outputs_of(grafts.model, host.batch(8)[0]))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.model.load_state_dict(state)
    half = {k: v for k, v in state.items() if not k.endswith("seeds.at_s_x23_0.body.0.weight")}
    assert len(half) == len(state) - 1
    with pytest.raises(RuntimeError, match="Missing key"):
        same.model.load_state_dict(half)


@each_host
def test_a_deep_copy_is_grown_alike_and_independent(host: Host) -> None:
    grafts, inputs = host.grafts(), host.batch(8)[0]
    site = grafts.sites[1]
    grafts.insert("s#0", site.name, seed_module(site, zero=False))
    grafts.set_alpha("s#0", 0.5)
    before = outputs_of(grafts.model, inputs)
    fork = twin(grafts)
    assert torch.equal(outputs_of(fork.model, inputs), before)
    mine, yours = {id(t) for t in grafts.model.parameters()}, {id(t) for t in fork.model.parameters()}
    assert not mine & yours
    fork.set_alpha("s#0", 1.0)
    fork.insert("s#1", site.name, seed_module(site, zero=False, seed=1))
    fork.remove("s#0")
    fork.remove("s#1")
    assert grafts.seed_ids() == ("s#0",)
    assert grafts.alpha("s#0") == 0.5
    assert torch.equal(outputs_of(grafts.model, inputs), before)
    grafts.remove("s#0")
    assert torch.equal(outputs_of(grafts.model, inputs), outputs_of(fork.model, inputs))


@each_host
def test_a_copied_or_unpickled_model_finds_its_seeds_again(host: Host) -> None:
    grafts, inputs = host.grafts(), host.batch(8)[0]
    grafts.insert("s#0", grafts.sites[0].name, seed_module(grafts.sites[0], zero=False))
    grafts.insert("s#1", grafts.sites[1].name, seed_module(grafts.sites[1], zero=False))
    grafts.set_alpha("s#0", 0.5)
    file = io.BytesIO()
    torch.save(grafts.model, file)
    file.seek(0)
    for model in (copy.deepcopy(grafts.model), torch.load(file, weights_only=False)):
        assert torch.equal(outputs_of(model, inputs), outputs_of(grafts.model, inputs))
        found = Grafts(model, grafts.sites)
        assert (found.live_ids(), found.isolated_ids()) == (("s#0",), ("s#1",))
        assert [n for n, _ in found.host_named_parameters()] == [n for n, _ in grafts.host_named_parameters()]
        found.remove("s#0")
        found.remove("s#1")
        assert not any(hasattr(module, "esper_graft") or module._forward_hooks for module in model.modules())


@each_host
def test_the_grown_model_can_be_exported_with_any_batch_size(host: Host) -> None:
    grafts = host.grafts()
    for n, site in enumerate(grafts.sites):
        grafts.insert(f"{site.name}#{n}", site.name, seed_module(site, zero=False))
        grafts.set_alpha(f"{site.name}#{n}", (1.0, 0.5)[n])
    grafts.insert("resting#2", grafts.sites[0].name, seed_module(grafts.sites[0]))
    model = grafts.model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        batch = torch.export.Dim("batch", min=2, max=256)
        exported = torch.export.export(model, (host.batch(4)[0],), dynamic_shapes=({0: batch},)).module()
    for size in (2, 4, 9):
        inputs = host.batch(size, seed=size)[0]
        torch.testing.assert_close(exported(inputs), model(inputs), rtol=0, atol=1e-6)


@each_host
def test_a_dormant_site_has_neither_child_nor_hook_and_removal_leaves_nothing(host: Host) -> None:
    grafts = host.grafts()
    names = [name for name, _ in grafts.model.named_modules()]
    state = list(grafts.model.state_dict())
    site = grafts.sites[0]
    modules = [seed_module(site, seed=n) for n in range(2)]
    for n, module in enumerate(modules):
        grafts.insert(f"s#{n}", site.name, module)
        assert not grafts.cleared(f"s#{n}")
    assert not any(module._forward_hooks for module in grafts.model.modules())  # isolated: no hook
    grafts.set_alpha("s#0", 1.0)
    grafts.set_alpha("s#1", 0.5)
    assert sum(len(module._forward_hooks) for module in grafts.model.modules()) == 1
    assert grafts.remove("s#0") is modules[0]
    assert grafts.cleared("s#0")
    assert not grafts.cleared("s#1")
    grafts.remove("s#1")
    assert grafts.cleared("s#1")
    assert [name for name, _ in grafts.model.named_modules()] == names
    assert list(grafts.model.state_dict()) == state
    assert not any(module._forward_hooks for module in grafts.model.modules())


def test_a_seed_s_parameters_have_their_names_in_the_model() -> None:
    grafts = HOSTS[2].grafts()
    grafts.insert("stem#0", "stem", seed_module(grafts.sites[0]))
    own = grafts.named_parameters("stem#0")
    assert own[0][0] == "stem.2.esper_graft.seeds.at_stem_x23_0.body.0.weight"
    named = dict(grafts.model.named_parameters())
    assert len(own) == 6
    assert all(named[name] is parameter for name, parameter in own)
    assert {n for n, _ in grafts.host_named_parameters()} == set(HOST_TENSORS["conv2d"].split())


def test_the_state_dict_holds_weights_and_no_alpha() -> None:
    grafts = HOSTS[2].grafts()
    module = seed_module(grafts.sites[0])
    grafts.insert("s#0", "stem", module)
    grown = [key for key in grafts.model.state_dict() if "esper_graft" in key]
    assert grown == [f"stem.2.esper_graft.seeds.at_s_x23_0.body.{key}" for key in module.state_dict()]


def test_counterfactual_passes_put_everything_back_even_when_they_fail() -> None:
    host = HOSTS[1]
    grafts, inputs = host.grafts(), host.batch(8)[0]
    site = grafts.sites[0]
    alone = outputs_of(grafts.model, inputs)
    seeds = [seed_module(site, zero=False, seed=n) for n in range(2)]
    plain = copy.deepcopy(grafts.model)
    for n, seed in enumerate(seeds):
        grafts.insert(f"s#{n}", site.name, seed)
    grafts.set_alpha("s#0", 0.5)
    now = outputs_of(grafts.model, inputs)
    for context, expected in (
        (grafts.without("s#0"), alone),
        (grafts.host_only(), alone),
        (grafts.with_("s#0"), by_hand(plain, {site.name: [(1.0, seeds[0])]}, inputs, False)),
        (grafts.with_("s#1"), by_hand(plain, {site.name: [(0.5, seeds[0]), (1.0, seeds[1])]}, inputs, False)),
        (grafts.uprooted("s#1"), now),
    ):
        seen = []
        with contextlib.suppress(KeyError), context:
            seen.append(outputs_of(grafts.model, inputs))
            raise KeyError
        assert torch.equal(seen[0], expected)
        assert torch.equal(outputs_of(grafts.model, inputs), now)
        assert (grafts.alpha("s#0"), grafts.alpha("s#1")) == (0.5, 0.0)
    grafts.isolate("s#0")
    with grafts.with_("s#1"):
        pass
    assert not any(module._forward_hooks for module in grafts.model.modules())


def test_what_can_t_be_done_is_refused_and_changes_nothing() -> None:
    host = HOSTS[0]
    grafts = host.grafts()
    site = grafts.sites[0]
    grafts.insert("s#0", site.name, seed_module(site))
    grafts.set_alpha("s#0", 0.5)
    state = list(grafts.model.state_dict())
    head = grafts.model.get_submodule("head")
    tied = nn.Linear(8, 8)
    tied.weight = nn.Parameter(head.weight.detach()[:1].expand(8, 8))
    for act, message in (
        (lambda: grafts.insert("s#0", site.name, seed_module(site)), "s#0 is already at first; a new seed"),
        (
            lambda: grafts.insert("s#1", "third", seed_module(site)),
            "'third' is not a site; the sites are first, second",
        ),
        (lambda: grafts.insert("s#1", site.name, head), "s#1 shares weight, bias with the model"),
        (lambda: grafts.insert("s#1", site.name, tied), "s#1 shares weight with the model"),
        (lambda: grafts.set_alpha("s#0", 1.5), "s#0 can't have alpha 1.5; it takes 0 to 1"),
        (lambda: grafts.set_alpha("s#0", float("nan")), "can't have alpha nan"),
        (lambda: grafts.set_alpha("s#7", 1.0), "there is no seed 's#7'; there are s#0"),
        (lambda: grafts.isolate("s#7"), "there is no seed"),
        (lambda: grafts.remove("s#7"), "there is no seed"),
        (lambda: grafts.named_parameters("s#7"), "there is no seed"),
        (lambda: grafts.with_("s#7").__enter__(), "there is no seed"),
        (lambda: grafts.uprooted("s#0").__enter__(), "s#0 is live at alpha 0.5; isolate it first"),
    ):
        with pytest.raises(GraftError, match=message):
            act()
        assert list(grafts.model.state_dict()) == state
        assert (grafts.seed_ids(), grafts.alpha("s#0")) == (("s#0",), 0.5)


def test_growth_outside_of_the_sites_and_unknown_sites_are_refused() -> None:
    grafts = HOSTS[0].grafts()
    grafts.insert("s#0", "first", seed_module(grafts.sites[0]))
    with pytest.raises(
        GraftError, match=r"has grown at first\.3\.esper_graft; name all of these places as sites"
    ):
        Grafts(grafts.model, grafts.sites[1:])
    with pytest.raises(SiteError, match="the model has no module 'third'"):
        Grafts(grafts.model, [SiteInfo("third", grafts.sites[0].layout, (8,), 8, 0)])


def test_a_seed_takes_over_the_host_s_type_and_mode() -> None:
    host = HOSTS[0]
    grafts = host.grafts()
    grafts.model.double().eval()
    module = seed_module(grafts.sites[0], zero=False)
    grafts.insert("s#0", "first", module)
    assert {p.dtype for p in module.parameters()} == {torch.float64}
    assert not any(m.training for m in grafts.model.modules())
    grafts.set_alpha("s#0", 0.5)
    assert grafts.model(host.batch(2)[0].double()).dtype == torch.float64


@each_host
def test_bfloat16_hosts_grow_too(host: Host) -> None:
    grafts, (inputs, targets) = host.grafts(), host.batch(8)
    grafts.model.bfloat16()
    inputs = inputs if host.vocabulary else inputs.bfloat16()
    site = grafts.sites[0]
    alone = outputs_of(grafts.model, inputs)
    grafts.insert("s#0", site.name, seed_module(site, zero=False))
    assert shadow_backward(grafts, "s#0", inputs, targets, loss_fn, RandomStream(0)).finite
    assert torch.equal(outputs_of(grafts.model, inputs), alone)
    grafts.set_alpha("s#0", 0.3)
    grown = outputs_of(grafts.model, inputs)
    assert grown.dtype == torch.bfloat16
    assert not torch.equal(grown, alone)
