"""Personas with labelled replies, which train judges: written, invented by rule, and recited."""
