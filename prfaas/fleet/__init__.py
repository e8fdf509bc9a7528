"""The mutable view of the engines: their health and the gateway's own load on them."""
