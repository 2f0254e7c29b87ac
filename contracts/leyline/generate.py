"""`python -m contracts.leyline.generate`: writes what follows from `contracts/leyline.proto` and the structs.

That is `leyline_pb2.py` and `leyline_pb2.pyi`, by protoc, and `mapping.py`, by `mapping.text`. All three are
committed; a test makes them again and compares. Needs the development dependency grpcio-tools.
"""

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from grpc_tools import protoc

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parents[1]
PROTO = "contracts/leyline.proto"
"""Where the interface is."""
NAMED = "contracts/leyline/leyline.proto"
"""Where protoc is told that it is: what it writes lies there, and says so of its module."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; 0, or 1 if protoc refuses or the structs and the messages differ."""
    parser = argparse.ArgumentParser(prog="python -m contracts.leyline.generate", description=__doc__)
    parser.add_argument("--into", type=Path, default=PACKAGE, metavar="FOLDER", help="where to write them")
    into: Path = parser.parse_args(argv).into
    if not compiled(into):
        print(f"protoc refused {PROTO}", file=sys.stderr)
        return 1
    from contracts.leyline.emit import mapping  # needs leyline_pb2, which was only now made

    try:
        text = mapping(importlib.import_module("contracts.leyline.leyline_pb2").DESCRIPTOR)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    (into / "mapping.py").write_text(text, encoding="utf-8")
    return 0


def compiled(into: Path) -> bool:
    """Have protoc write its two files into `into`; whether it did."""
    include = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as made:
        options = [f"-I{NAMED}={ROOT / PROTO}", f"-I{include}", f"--python_out={made}", f"--pyi_out={made}"]
        if protoc.main(["protoc", *options, NAMED]) != 0:
            return False
        for name in ("leyline_pb2.py", "leyline_pb2.pyi"):
            (into / name).write_bytes((Path(made) / NAMED).with_name(name).read_bytes())
    return True


if __name__ == "__main__":
    sys.exit(main())
