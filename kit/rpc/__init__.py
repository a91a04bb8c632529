"""The seam between rooms: a gRPC channel, local or remote."""
