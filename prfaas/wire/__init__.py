"""The transfer protocol as bytes in, events out: no sockets, no threads, no clocks of its own."""
