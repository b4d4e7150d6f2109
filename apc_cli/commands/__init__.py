"""The terminal side of commands that are more than one stage."""
