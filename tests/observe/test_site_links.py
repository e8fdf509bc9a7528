"""What crosses a link is counted once, however many workers see it."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from prfaas.observe.definitions import Definitions
from prfaas.observe.lead import Lead
from prfaas.observe.site_links import SiteLinkCollector, SiteLinkFigures


class Worker:
    """The part of one that sees links."""

    def __init__(self, folder: str | None) -> None:
        self.registry, self.lead = CollectorRegistry(), Lead(folder)
        self.links = SiteLinkCollector(Definitions(self.registry), self.lead)

    def sees(self, crossed_bytes: int) -> float:
        """So much has crossed since it began. Returns what it has counted of that."""
        self.links.note([SiteLinkFigures("cloud", "edge", crossed_bytes, 1e9, 0, 0, 0, 0, False, False, False, None)])
        labels = {"source": "cloud", "target": "edge"}
        return self.registry.get_sample_value("prfaas_site_link_bytes_total", labels) or 0.0


def test_one_of_several_workers_counts(tmp_path: Path) -> None:
    """The first, whatever the others saw; when it has ended another goes on where it was itself."""
    first, second = Worker(str(tmp_path)), Worker(str(tmp_path))
    assert (first.sees(100), second.sees(80)) == (100, 0)
    assert (first.sees(150), second.sees(130)) == (150, 0)
    assert first.lead._held is not None
    first.lead._held.close()  # as the kernel does
    assert second.sees(150) == 20
    assert second.lead._held is not None
    second.lead._held.close()


def test_a_link_that_comes_back_counts_on() -> None:
    """After a reload that took it out its figures begin anew; the counter does not go back."""
    alone = Worker(None)
    assert [alone.sees(100), alone.sees(0), alone.sees(30)] == [100, 100, 130]
