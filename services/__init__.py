"""The four rooms; each knows only itself, kit and the contract."""
