"""What a run has asked for and what it costs, with limits that end it."""

from dataclasses import dataclass, field, fields

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from apc_cli.errors import ConfigError, TryAgainLater
from apc_cli.models.llm.chat_replies import Usage

_MILLION = 1_000_000
_SAMPLE = 1000
BATCH_DISCOUNT = 0.5
"""What a batch costs beside single requests, at OpenAI and at those who copied its API."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        """Dollars for these tokens; 1,000 in and 100 out at 2 and 8 are 0.0028."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input - usage.cached
        total = fresh * self.input + usage.cached * cached + usage.output * self.output
        return total / _MILLION


@dataclass
class Count:
    """Requests sent, replies that came, those taken from the journal, tokens, and dollars.

    `dollars` are of the replies that have a known price.
    """

    requests: int = 0
    replies: int = 0
    stored: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float = 0.0

    def since(self, earlier: "Count") -> "Count":
        """What came on top of an earlier count."""
        names = [f.name for f in fields(self)]
        return Count(*(getattr(self, name) - getattr(earlier, name) for name in names))

    def copy(self) -> "Count":
        return self.since(Count())


@dataclass
class Meter:
    """Counts what is asked and paid for, and refuses what would go beyond the limits.

    Attributes:
        price: None when it is not known.
        max_requests: requests that this run may send.
        max_dollars: what they may cost; requests under way count with what they are likely to cost.
    """

    price: Price | None = None
    max_requests: int | None = None
    max_dollars: float | None = None
    count: Count = field(default_factory=Count)
    _under_way: int = 0
    _reserved: float = 0.0

    def admit(self, likely: float | None = None) -> None:
        """Counts a request that is about to be sent; `likely` is what it may cost in dollars.

        Raises:
            TryAgainLater: a limit is reached.
        """
        if self.max_requests is not None and self.count.requests >= self.max_requests:
            raise self._reached(f"--max-requests {self.max_requests}")
        if likely is None:
            likely = self.count.dollars / self.count.replies if self.count.replies else 0.0
        spent = self.count.dollars + self._reserved + likely
        if self.max_dollars is not None and spent > self.max_dollars:
            raise self._reached(f"--max-cost {self.max_dollars:g}")
        self.count.requests += 1
        self._under_way += 1
        self._reserved += likely

    def landed(self, requests: int = 1) -> None:
        """Requests that were admitted have ended, well or not."""
        share = min(1.0, requests / self._under_way) if self._under_way else 1.0
        self._reserved *= 1.0 - share
        self._under_way = max(0, self._under_way - requests)

    def paid(self, usage: Usage, factor: float = 1.0) -> None:
        """A reply arrived and costs what its tokens cost, times the factor."""
        self.count.input_tokens += usage.input
        self.count.output_tokens += usage.output
        self.count.replies += 1
        if self.price:
            self.count.dollars += self.price.of(usage) * factor

    def note(self) -> str:
        """The count so far in a few words."""
        spent = f"${self.count.dollars:.4f}" if self.price else "price unknown"
        return f"{self.count.requests} asked, {self.count.stored} stored, {spent}"

    def _reached(self, limit: str) -> TryAgainLater:
        done = f"{self.count.requests} requests"
        spent = f" and ${self.count.dollars:.4f}" if self.price else ""
        return TryAgainLater(f"the limit {limit} is reached after {done}{spent}")


def price_of(model: str, base_url: str) -> Price | None:
    """The published price of a model at a server; None where nobody publishes one."""
    try:
        rates = [
            float(calc_price(usage, model, provider_api_url=base_url).total_price)
            for usage in (
                PricedUsage(input_tokens=_SAMPLE, output_tokens=0),
                PricedUsage(input_tokens=0, output_tokens=_SAMPLE),
                PricedUsage(input_tokens=_SAMPLE, cache_read_tokens=_SAMPLE, output_tokens=0),
            )
        ]
    except LookupError:
        return None
    per_million = [rate * _MILLION / _SAMPLE for rate in rates]
    return Price(*per_million)


def check_limit(price: Price | None, max_dollars: float | None, model: str) -> None:
    """A limit in dollars needs a price.

    Raises:
        ConfigError: there is none.
    """
    if max_dollars is not None and price is None:
        raise ConfigError(
            f"--max-cost needs a price, and that of {model} is not known",
            "set teacher.price_input and teacher.price_output (dollars per million tokens of "
            "teacher.model), or use "
            "--max-requests",
        )
