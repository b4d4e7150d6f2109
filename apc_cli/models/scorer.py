"""Where other programs import `Scorer` from."""

from apc_cli.models.judging.scorer import Scorer

__all__ = ["Scorer"]
