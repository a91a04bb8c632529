"""Settings, wiring, lifecycle and command line: the only place that knows everyone."""
