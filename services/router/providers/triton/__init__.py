"""NVIDIA Triton: contracts of its models, transports, servers."""
