"""The spans of a mover's transfers: one for the whole of each, and within it one for each of its stages."""

from prfaas.tracing import NO_TRACER, Span, TraceContext, Tracer, Value


class TransferSpans:
    """Begins and ends them by the transfer's id. One that comes without a trace gets none: movers begin no traces.
    Owned by the mover's loop; holds something only for transfers that its owner has not closed."""

    def __init__(self, tracer: Tracer = NO_TRACER) -> None:
        self._tracer = tracer
        self._open: dict[str, tuple[Span, dict[str, Span]]] = {}

    def open(self, name: str, transfer_id: str, trace: TraceContext | None, **attributes: Value) -> None:
        """The transfer has begun here, within what its request is."""
        if self._tracer.is_on and trace is not None and transfer_id not in self._open:
            span = self._tracer.span(name, trace, transfer_id=transfer_id)
            span.note(**attributes)
            self._open[transfer_id] = (span, {})

    def context(self, transfer_id: str) -> TraceContext | None:
        """For the other side of the transfer."""
        found = self._open.get(transfer_id)
        return found[0].context if found else None

    def begin(self, stage: str, transfer_id: str, link: TraceContext | None = None, **attributes: Value) -> None:
        """A stage has begun; ignored for one that has been."""
        if not self._open:
            return
        found = self._open.get(transfer_id)
        if found is not None and stage not in found[1]:
            whole, stages = found
            stages[stage] = self._tracer.span(stage, whole, link=link, transfer_id=transfer_id)
            stages[stage].note(**attributes)

    def end(self, stage: str, transfer_id: str) -> None:
        """A stage is over."""
        found = self._open.get(transfer_id)
        if found is not None and stage in found[1]:
            found[1][stage].end()

    def close(self, transfer_id: str, reason: str, **attributes: Value) -> None:
        """The transfer is over, and with it all of its stages; ``reason`` is empty when it did what it should."""
        whole, stages = self._open.pop(transfer_id, (None, {}))
        if whole is None:
            return
        for span in (*stages.values(), whole):
            if reason:
                span.fail(reason)
            if span is whole:
                span.note(**attributes)
            span.end()
