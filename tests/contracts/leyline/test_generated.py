"""What is committed is what the generator makes."""

import ast
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from contracts.leyline import generate
from contracts.leyline import leyline_pb2 as pb


def descriptors(source: str) -> FileDescriptorProto:
    """The descriptors that a `…_pb2.py` would register."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    (given,) = [call.args[0] for call in calls if getattr(call.func, "attr", "") == "AddSerializedFile"]
    return FileDescriptorProto.FromString(ast.literal_eval(given))


def version(source: str) -> str:
    """The version of protoc that wrote a `…_pb2.py`."""
    (line,) = [line for line in source.splitlines() if line.startswith("# Protobuf Python Version")]
    return line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leyline")
    assert generate.main(["--into", str(folder)]) == 0
    return folder


def test_the_interface_lies_where_others_look_for_it_and_nowhere_else() -> None:
    assert generate.PROTO == "contracts/leyline.proto"
    assert sorted((generate.ROOT / "contracts").rglob("*.proto")) == [generate.ROOT / generate.PROTO]
    assert pb.SystemStatePacket.__module__ == pb.__name__


def test_the_generator_writes_three_files_and_leaves_nothing_else(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {"leyline_pb2.py", "leyline_pb2.pyi", "mapping.py"}


def test_the_committed_descriptors_are_those_of_the_proto_file(made: Path) -> None:
    wanted = descriptors((made / "leyline_pb2.py").read_text())
    assert wanted == descriptors((generate.PACKAGE / "leyline_pb2.py").read_text())
    now = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(now)
    assert now == wanted


def test_the_committed_mapping_is_that_of_the_structs(made: Path) -> None:
    assert (made / "mapping.py").read_text() == (generate.PACKAGE / "mapping.py").read_text()


def test_the_committed_stubs_are_those_of_the_proto_file(made: Path) -> None:
    """By name with another version of protoc, to the letter with the same."""
    ours = {name: (generate.PACKAGE / name).read_text() for name in ("leyline_pb2.py", "leyline_pb2.pyi")}
    theirs = {name: (made / name).read_text() for name in ours}
    if version(ours["leyline_pb2.py"]) == version(theirs["leyline_pb2.py"]):
        assert ours == theirs
    names = [
        {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)}
        for text in (ours["leyline_pb2.pyi"], theirs["leyline_pb2.pyi"])
    ]
    assert names[0] == names[1] >= set(pb.DESCRIPTOR.message_types_by_name)


def test_protoc_s_refusal_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "PROTO", "contracts/leyline/missing.proto")
    assert generate.main(["--into", str(tmp_path)]) == 1
    assert list(tmp_path.rglob("*.py*")) == []
