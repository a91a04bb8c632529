"""Catalogue, dispatch and upstreams."""
