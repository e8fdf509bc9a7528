"""Pure placement decisions: the features of a request and a snapshot of the fleet in, a placement with reasons out."""
