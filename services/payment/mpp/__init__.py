"""The HTTP `Payment` scheme and the `tempo` method, server side."""
