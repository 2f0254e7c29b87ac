"""report.json, schema 1: names that stay, and no number that JSON does not have."""

import json

import msgspec
import pytest

from contracts.report import Report
from tests.esper.report.made_up import a_report

PROMISED = {
    "": ("schema workload policy seed versions host epochs grafts final bus alerts policy_updates wall_s"),
    "host": "params",
    "epochs": "epoch train_loss val_loss val_accuracy learning_rate boundary_ms",
    "epochs.boundary_ms": "assemble decide apply total",
    "grafts": "site blueprint_id seed_id outcome stages params gain",
    "grafts.stages": "stage epoch",
    "final": "val_accuracy test_accuracy fresh_accuracy test_loss params train_flops",
}


def test_the_promised_names_are_there() -> None:
    written = json.loads(msgspec.json.encode(a_report(40)))
    for place, names in PROMISED.items():
        assert set(names.split()) <= set(_first(written, place)), place
    assert written["schema"] == 1


def test_a_report_survives_json() -> None:
    report = a_report(40)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_another_schema_is_refused() -> None:
    written = json.loads(msgspec.json.encode(a_report(3))) | {"schema": 2}
    with pytest.raises(msgspec.ValidationError, match="schema"):
        msgspec.convert(written, Report)


def _first(written: object, place: str) -> dict[str, object]:
    for key in place.split("."):
        if key:
            assert isinstance(written, dict)
            written = written[key]
        if isinstance(written, list):
            written = written[0]
    assert isinstance(written, dict)
    return written
