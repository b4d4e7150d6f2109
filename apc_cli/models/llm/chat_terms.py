"""What has been learnt of a server's terms while talking to it."""

from typing import Any

from apc_cli.models.llm.chat_outcomes import Outcome, Unsupported
from apc_cli.models.llm.chat_replies import Failure
from apc_cli.models.llm.chat_requests import Dialect


class Terms:
    """The model's name at the server, and the dialect that the server has been found to take.

    Attributes:
        refused: the parameters that the server does not take, in the order of finding out.
        served: the server has answered this model's requests: key, address and model are right.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.dialect = Dialect()
        self.refused: list[str] = []
        self.served = False

    def adapt(self, used: Dialect, sent: dict[str, Any], outcome: Unsupported) -> Outcome:
        """Gives the parameter up, unless the request did not even have it.

        Args:
            used: the dialect of the request; another worker may have gone on from it meanwhile.
            sent: the request's parameters.
            outcome: what the server does not take.
        """
        if outcome.parameter not in sent | sent.get("extra_body", {}):
            return Failure(f"the server does not support {outcome.parameter}, which was not sent")
        if self.dialect is used:
            self.dialect = used.without(outcome.parameter)
            self.refused.append(outcome.parameter)
        return outcome
