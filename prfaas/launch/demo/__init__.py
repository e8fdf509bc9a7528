"""The demo: the same requests through the gateway and on the edge engine alone, compared token by token."""
