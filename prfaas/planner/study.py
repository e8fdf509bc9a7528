"""The best plan in its surroundings: what else the same engines could do, and what more of each thing would bring."""

from dataclasses import dataclass, replace

from prfaas.planner.grid import Averaging
from prfaas.planner.hardware import Hardware
from prfaas.planner.plan import Plan, Purchase
from prfaas.planner.search import all_local, all_remote, plan, purchases
from prfaas.planner.workload import Slo, Workload

UNLIMITED_BYTES_S = 1e15
"""8 Pbit/s: no fleet makes a thousandth of it."""
WORTH_SHARE = 0.001
"""Of Lambda_max: less than this is within what the steps of the search leave."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the planner is asked."""

    hardware: Hardware
    workload: Workload
    slo: Slo
    averaging: Averaging = "mean_length"

    def best(self, hardware: Hardware | None = None) -> Plan:
        """The best plan, perhaps with other hardware. Raises ConfigError as ``search.plan`` does."""
        return plan(hardware or self.hardware, self.workload, self.slo, averaging=self.averaging)


@dataclass(frozen=True, slots=True)
class Study:
    """What the planner answers.

    Attributes:
        plan: the best one.
        all_local: the same local engines without the remote site; None where one engine is all there is.
        all_remote: every prefill remote; None where nothing can go there.
        purchases: what one more of each thing brings, the most first.
        enough_egress_bytes_s: bandwidth with which the link holds nothing back; 0 where even the widest would carry
            nothing.
    """

    plan: Plan
    all_local: Plan | None
    all_remote: Plan | None
    purchases: tuple[Purchase, ...]
    enough_egress_bytes_s: float

    @property
    def next_purchase(self) -> Purchase | None:
        """What brings the most; None when no single thing does, because several stages bind."""
        first = self.purchases[0]
        return first if first.gain_requests_s > WORTH_SHARE * self.plan.requests_s else None


def study(question: Question) -> Study:
    """Plan, and plan again with everything that the answer is compared with.

    Raises:
        ConfigError: as ``search.plan`` does.
    """
    hardware, workload, slo, averaging = question.hardware, question.workload, question.slo, question.averaging
    found = question.best()
    unlimited = question.best(replace(hardware, egress_bytes_s=UNLIMITED_BYTES_S))
    # Where the link does not bind, plans that serve the same may send more: what this one sends is enough.
    is_held_back = unlimited.requests_s > found.requests_s * (1 + 1e-9)
    return Study(
        found,
        all_local(hardware, workload, slo, averaging=averaging) if hardware.local_engines > 1 else None,
        all_remote(hardware, workload, slo, averaging=averaging) if hardware.has_remote else None,
        purchases(hardware, workload, slo, averaging=averaging),
        (unlimited if is_held_back else found).egress_bytes_s,
    )
