"""For all tests of the doctor: a machine that stands still for seconds loses no answer. No test is about these bounds,
but those that set them."""

import pytest


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that no test reaches."""
    monkeypatch.setattr("prfaas.doctor.asking.ASK_S", 60.0)
    monkeypatch.setattr("prfaas.doctor.network.CONNECT_S", 60.0)
    monkeypatch.setattr("prfaas.transport.probe.DESCRIBE_TIMEOUT_S", 60.0)
    monkeypatch.setattr("prfaas.transport.report.STATISTICS_TIMEOUT_S", 60.0)
