"""Faithful role-play characters: make them, measure them, talk to them."""

__version__ = "0.1.0"
