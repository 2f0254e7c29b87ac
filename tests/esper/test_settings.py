"""Configuration: layers, refusals that say what would be right, and a way back to the file."""

import contextlib
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.config import Config
from contracts.growth import Layout
from esper import schema
from esper.settings import ConfigError, load, to_toml


def a_file(folder: Path, text: str) -> Path:
    file = folder / "esper.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(
    file: Path | None = None, assignments: tuple[str, ...] = (), values: dict[str, object] | None = None
) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(file, assignments, values)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_nothing_given_is_the_default() -> None:
    assert load() == Config()


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    file = a_file(tmp_path, "[train]\nbatch_size = 10\nepoch_steps = 5\n[run]\nseed = 1\n")
    config = load(file, ["train.batch_size=20"], {"run.seed": 3, "run.workload": None})
    assert (config.train.batch_size, config.train.epoch_steps, config.run.seed) == (20, 5, 3)
    assert config.run.workload == Config().run.workload


@pytest.mark.parametrize(
    ("text", "section", "key", "value"),
    [
        ("run.workload=mnist1d", "run", "workload", "mnist1d"),
        ('run.workload="a b"', "run", "workload", "a b"),
        ("run.workload=12", "run", "workload", "12"),
        ("train.clip_norm=1", "train", "clip_norm", 1.0),
        ("run.compare=true", "run", "compare", True),
        ("growth.max_params=none", "growth", "max_params", None),
        ("growth.sites=relu1", "growth", "sites", "relu1"),
        ('growth.sites=["relu1", "relu2"]', "growth", "sites", ("relu1", "relu2")),
        ("growth.approved=BP036", "growth", "approved", ("BP036",)),
        (r"growth.sites=body\.relu\d", "growth", "sites", r"body\.relu\d"),
        ("growth.layouts.features.0=sequence", "growth", "layouts", {"features.0": Layout.SEQUENCE}),
        ("growth.layouts={a = 'image'}", "growth", "layouts", {"a": Layout.IMAGE}),
    ],
)
def test_set_reads_toml_or_bare_text(text: str, section: str, key: str, value: object) -> None:
    assert getattr(getattr(load(None, [text]), section), key) == value


def test_names_with_dots_need_no_quotes_in_a_file(tmp_path: Path) -> None:
    plain = a_file(tmp_path, '[growth.layouts]\nfeatures.0 = "image"\n')
    assert load(plain).growth.layouts == {"features.0": Layout.IMAGE}


def test_layouts_of_file_and_command_line_are_joined(tmp_path: Path) -> None:
    file = a_file(tmp_path, '[growth.layouts]\na = "image"\nb = "image"\n')
    layouts = load(file, ["growth.layouts.b=tokens"]).growth.layouts
    assert layouts == {"a": Layout.IMAGE, "b": Layout.TOKENS}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train.batch_sise=3", "train.batch_sise is not a setting; did you mean train.batch_size?"),
        ("batch_size=3", "batch_size is not a setting; did you mean train.batch_size?"),
        ("tran.batch_size=3", "tran.batch_size is not a setting; did you mean train.batch_size?"),
        ("growth.gates.seed=3", "growth.gates.seed is not a setting; did you mean run.seed?"),
        ("serve.zzz=3", "serve.zzz is not a setting; serve has enabled, host, port, render_every_s"),
        ("run.seed.x=3", "run.seed.x is not a setting; run.seed is a value and has no keys"),
        ("run=3", "run = 3 is refused; it is a section of settings"),
        ("train.batch_size=0", "train.batch_size = 0 is refused; it takes a whole number of at least 1"),
        (
            "train.batch_size=abc",
            'train.batch_size = "abc" is refused; it takes a whole number of at least 1',
        ),
        (
            "train.batch_size=true",
            "train.batch_size = true is refused; it takes a whole number of at least 1",
        ),
        (
            "run.seed=9223372036854775808",
            "run.seed = 9223372036854775808 is refused; "
            "it takes a whole number from 0 to 9223372036854775807",
        ),
        ("train.decay_from=1.5", "train.decay_from = 1.5 is refused; it takes a number from 0 to 1"),
        ("growth.issuers=[]", "growth.issuers = [] is refused; it takes a list of text, at least 1"),
        ("train.learning_rate=nan", "train.learning_rate = nan is refused; it takes a number above 0"),
        ("train.learning_rate=inf", "train.learning_rate = inf is refused; it takes a number above 0"),
        ("run.compare=1", "run.compare = 1 is refused; it takes true or false"),
        (
            "growth.layouts.a=sequenc",
            'growth.layouts.a = "sequenc" is refused; it takes "vector", "sequence", "image" or "tokens"'
            "; did you mean sequence?",
        ),
    ],
)
def test_a_refusal_names_the_setting_and_what_it_takes(text: str, line: str) -> None:
    assert refusal(assignments=(text,)) == (f"--set {text}: {line}",)


def test_an_unknown_section_is_answered_with_those_there_are() -> None:
    (line,) = refusal(assignments=("qqqq.zzzz=3",))
    assert line.startswith(
        "--set qqqq.zzzz=3: qqqq.zzzz is not a setting; there are the sections run, train,"
    )


def test_a_misspelled_choice_is_answered_with_the_nearest() -> None:
    (line,) = refusal(values={"run.policy": "heuristc"})
    assert line.startswith('--policy heuristc: run.policy = "heuristc" is refused; it takes ')
    assert line.endswith("; did you mean heuristic?")


def test_every_problem_is_reported_section_by_section_the_file_first(tmp_path: Path) -> None:
    file = a_file(tmp_path, "[train]\nbatch_size = 0\nsteps = 1\n[run]\nseed = -1\n")
    problems = refusal(file, ("train.clip_norm=-1",), {"run.epochs": 0})
    assert [problem.split(": ")[0] for problem in problems] == [
        str(file), str(file), str(file), "--set train.clip_norm=-1", "--epochs 0",
    ]  # fmt: skip
    assert ["run.seed" in problems[0], "batch_size" in problems[1], "steps" in problems[2]] == [True] * 3


@pytest.mark.parametrize("text", ["train.batch_size", "=3", "", " = "])
def test_set_without_name_and_value_says_how_it_is_written(text: str) -> None:
    (line,) = refusal(assignments=(text,))
    assert line.endswith("takes section.key=value, for example train.batch_size=100")


def test_set_takes_one_setting_not_a_second_line() -> None:
    assert refusal(assignments=("train.batch_size=1\nseed=2",))


def test_a_length_on_the_command_line_replaces_the_other_kind_in_the_file(tmp_path: Path) -> None:
    file = a_file(tmp_path, "[run]\ngflop = 30\n")
    run = load(file, values={"run.epochs": 5}).run
    assert (run.epochs, run.gflop) == (5, None)
    assert load(file, values={"run.epochs": None}).run.gflop == 30.0


def test_two_lengths_in_one_place_exclude_each_other(tmp_path: Path) -> None:
    file = a_file(tmp_path, "[run]\ngflop = 30\nepochs = 2\n")
    assert refusal(file) == (f"{file}: run.epochs and run.gflop exclude each other; give one of them",)
    assert refusal(None, ("run.gflop=3",), {"run.epochs": 2}) == (
        "run.epochs and run.gflop exclude each other; give one of them",
    )


def test_a_setting_given_twice_differently_is_refused() -> None:
    assert refusal(None, ("run.seed=1",), {"run.seed": 2}) == (
        "--seed 2: run.seed was given before, by --set run.seed=1; give it once",
    )
    assert load(None, ["run.seed=2"], {"run.seed": 2}).run.seed == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "none.toml"
    assert refusal(file) == (f"{file} does not exist; give the path of a TOML file",)


def test_a_folder_in_place_of_a_file_is_told_apart(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path} is a folder; give the path of a TOML file in it (a run's is config.toml)",
    )


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'[run]\nworkload = "\xe9"\n')
    assert "can't be read as TOML in UTF-8" in refusal(tmp_path / "latin.toml")[0]


@pytest.mark.parametrize("text", ["", "# nothing is changed\n"])
def test_a_file_that_sets_nothing_is_the_default(text: str, tmp_path: Path) -> None:
    assert load(a_file(tmp_path, text)) == Config()


def test_a_file_that_is_not_toml_is_named_with_the_line(tmp_path: Path) -> None:
    (line,) = refusal(a_file(tmp_path, "[run]\nseed = = 2\n"))
    assert "is not TOML" in line
    assert "line 2" in line


def test_the_default_configuration_comes_back_from_toml(tmp_path: Path) -> None:
    assert load(a_file(tmp_path, to_toml(Config()))) == Config()


_ANY_CHARACTER = st.characters(codec="utf-8")


def _values(annotation: object) -> st.SearchStrategy[object]:
    """Values that a setting of this type accepts."""
    kind = msgspec.inspect.type_info(annotation)
    return _accepted(kind)


def _accepted(kind: msgspec.inspect.Type) -> st.SearchStrategy[object]:
    match kind:
        case msgspec.inspect.IntType():
            return st.integers(kind.ge or 0, kind.le if kind.le is not None else 2**62)
        case msgspec.inspect.FloatType():
            return st.floats(
                kind.gt if kind.gt is not None else kind.ge,
                kind.le,
                exclude_min=kind.gt is not None,
                allow_nan=False,
                allow_infinity=False,
            )
        case msgspec.inspect.Metadata():
            return _accepted(kind.type)
        case msgspec.inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern, fullmatch=True, alphabet=_ANY_CHARACTER)
        case msgspec.inspect.StrType():
            return st.text(_ANY_CHARACTER)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.LiteralType():
            return st.sampled_from(kind.values)
        case msgspec.inspect.EnumType():
            return st.sampled_from([member.value for member in kind.cls])
        case msgspec.inspect.UnionType():
            return st.one_of([_accepted(part) for part in kind.types])
        case msgspec.inspect.VarTupleType():
            return st.lists(_accepted(kind.item_type), min_size=kind.min_length or 0, max_size=3)
        case msgspec.inspect.TupleType():
            return st.tuples(*(_accepted(part) for part in kind.item_types)).map(list)
        case msgspec.inspect.DictType():
            name = st.text(_ANY_CHARACTER, min_size=1, max_size=8)
            return st.dictionaries(name, _accepted(kind.value_type), max_size=3)
    raise NotImplementedError(kind)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any configuration that is allowed."""
    tables: dict[str, typing.Any] = {}
    for setting in schema.SETTINGS.values():
        if draw(st.booleans()):
            table = tables
            for key in setting.path[:-1]:
                table = table.setdefault(key, {})
            table[setting.path[-1]] = draw(_values(setting.annotation))
    if "epochs" in tables.get("run", {}):
        tables["run"].pop("gflop", None)
    return msgspec.convert(tables, Config)


@given(configs())
def test_any_configuration_comes_back_from_toml(
    tmp_path_factory: pytest.TempPathFactory, config: Config
) -> None:
    file = a_file(tmp_path_factory.getbasetemp(), to_toml(config))
    assert load(file) == config


@given(st.text(max_size=30))
def test_whatever_set_is_given_is_taken_or_refused_in_words(text: str) -> None:
    for assignment in (text, f"train.batch_size={text}", f"growth.layouts.{text}"):
        with contextlib.suppress(ConfigError):
            assert isinstance(load(None, [assignment]), Config)
