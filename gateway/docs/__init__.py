"""The description of the API, from the structs that requests are read with; pure."""
