"""How fast a deployment has been: moving averages of first token and token rate; pure."""

from typing import Final

import msgspec

from services.router.catalog import DeploymentType

WEIGHT: Final = 0.2
"""How much the newest answer counts."""

SAMPLES_MIN: Final = 20
"""Fewer answers than these say nothing; then a deployment is taken to be like its type."""

PRIORS: Final = {
    DeploymentType.NATIVE: (0.2, 60.0),
    DeploymentType.QUOTA: (0.5, 50.0),
    DeploymentType.EXTERNAL: (1.0, 40.0),
}
"""Seconds to the first token, and tokens per second after it."""


class Speed(msgspec.Struct):
    """One deployment's averages."""

    ttft_s: float = 0.0
    tokens_per_s: float = 0.0
    sample_count: int = 0

    def measured(self, *, ttft_s: float, duration_s: float, tokens: int) -> None:
        """Take a finished answer."""
        rest_s = max(duration_s - ttft_s, 0.001)
        rate = max(tokens - 1, 1) / rest_s
        self.sample_count += 1
        if self.sample_count == 1:
            self.ttft_s, self.tokens_per_s = ttft_s, rate
            return
        self.ttft_s += WEIGHT * (ttft_s - self.ttft_s)
        self.tokens_per_s += WEIGHT * (rate - self.tokens_per_s)

    def predicted_s(self, kind: DeploymentType, tokens: int) -> float:
        """Return how long an answer of so many tokens will take."""
        if self.sample_count < SAMPLES_MIN:
            ttft_s, rate = PRIORS[kind]
        else:
            ttft_s, rate = self.ttft_s, self.tokens_per_s
        return ttft_s + tokens / rate
