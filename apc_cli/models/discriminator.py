"""Where other programs import `Discriminator` from."""

from apc_cli.models.judging.discriminator import Discriminator

__all__ = ["Discriminator"]
