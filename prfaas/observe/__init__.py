"""What the gateway tells about itself: metrics, the ring of decisions, the request log."""
