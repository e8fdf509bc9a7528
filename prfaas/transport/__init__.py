"""The mover process and everything that touches sockets, gRPC or shared memory."""
