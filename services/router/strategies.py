"""In which order candidates are tried: cheapest, fastest or balanced; pure.

The first is drawn from a band of equals, so that load and income are spread; the rest follow as
fallbacks. Source: `facts/features.md` section 3.2.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from services.router.candidates import Features
from services.router.chance import Chance, spread
from services.router.snapshots import Candidate, Selection, Snapshot, rank_of_owner
from services.router.speed import size_of
from turnpike.router.v1 import router_pb2

PRICE_BAND_PERCENT: Final = 20
TIME_BAND_PERCENT: Final = 10
EXPLORE_ONE_IN: Final = 20
"""How often a candidate of the band is tried that nothing was heard of for long."""

_BYTES_PER_36_TOKENS: Final = 10
"""An estimate of a prompt: 3.6 bytes for a token."""

_CHEAPEST: Final = router_pb2.STRATEGY_CHEAPEST
_FASTEST: Final = router_pb2.STRATEGY_FASTEST

InFlight = Callable[[str], int]
"""Returns how many calls of a deployment run."""


class Estimate(NamedTuple):
    """What a request is taken to need, tokens; `is_sum` asks for the plain sum of prices."""

    prompt_tokens: int
    answer_tokens: int
    is_sum: bool


class Ranking(NamedTuple):
    """Who is tried first, and why.

    `among` are those that were scored, `scores` theirs in the same order: pico-USD or microseconds;
    `band` indexes those that are as good as the best. `in_flight` are the loads that were compared.
    """

    first: Candidate
    score: int
    among: Selection
    scores: Sequence[int]
    band: Sequence[int]
    in_flight: tuple[int, ...] = ()


def estimate(snapshot: Snapshot, features: Features) -> Estimate:
    """Return what a request is taken to need."""
    size = features.prompt_tokens_max * 1024 // max(1, snapshot.prompt_tokens_per_kilobyte_max)
    routing = features.routing
    return Estimate(
        size * _BYTES_PER_36_TOKENS // 36,
        min(features.max_tokens, snapshot.answer_tokens),
        routing is not None and routing.is_ranked_by_sum,
    )


def rank(
    selection: Selection, features: Features, needed: Estimate, chance: Chance, in_flight: InFlight
) -> Ranking:
    """Return who of a selection, which is not empty, is tried first."""
    among, is_fastest = selection, False
    routing = features.routing
    strategy = 0 if routing is None else routing.strategy
    if features.is_constrained and selection.has_open_failures:
        among = _soundest(selection)
    if strategy == _FASTEST:
        is_fastest = True
    elif strategy != _CHEAPEST:
        among = among.favoured
    scores = _scores(among, needed, is_fastest=is_fastest)
    if len(scores) == 1:
        return Ranking(among.candidates[0], scores[0], among, scores, (0,))
    percent = 100 + (TIME_BAND_PERCENT if is_fastest else PRICE_BAND_PERCENT)
    limit = min(scores) * percent
    band = [index for index, score in enumerate(scores) if 100 * score <= limit]
    index, loads = _drawn(among, band, features, needed, chance, in_flight)
    return Ranking(among.candidates[index], scores[index], among, scores, band, loads)


def order(
    selection: Selection, ranking: Ranking, features: Features, needed: Estimate
) -> list[Candidate]:
    """Return all candidates in the order in which they are tried."""
    routing = features.routing
    is_fastest = routing is not None and routing.strategy == _FASTEST
    is_by_owner = not is_fastest and (routing is None or routing.strategy != _CHEAPEST)
    scores = _scores(selection, needed, is_fastest=is_fastest)

    def place(pair: tuple[Candidate, int]) -> tuple[object, ...]:
        candidate, score = pair
        flaws = candidate.open_failure_count if features.is_constrained else 0
        owners = rank_of_owner(candidate) if is_by_owner else (0, 0)
        return candidate.name != ranking.first.name, flaws, owners, score

    pairs = sorted(zip(selection.candidates, scores, strict=True), key=place)
    return preferred([candidate for candidate, _ in pairs], routing)


def preferred(
    candidates: Sequence[Candidate], routing: router_pb2.Routing | None
) -> list[Candidate]:
    """Return candidates with those that the caller named first in front, in its order."""
    if routing is None or not routing.preferred:
        return list(candidates)
    names = list(routing.preferred)

    def place(candidate: Candidate) -> int:
        found = [names.index(n) for n in (candidate.name, candidate.provider) if n in names]
        return min(found, default=len(names))

    return sorted(candidates, key=place)


def _drawn(
    among: Selection,
    band: Sequence[int],
    features: Features,
    needed: Estimate,
    chance: Chance,
    in_flight: InFlight,
) -> tuple[int, tuple[int, ...]]:
    """Return whom of a band chance, load or the sticky key means, and the loads compared."""
    if len(band) == 1:
        return band[0], ()
    if features.sticky_seed:
        seed, hashes = int.from_bytes(features.sticky_seed, "big"), among.hashes
        return max(band, key=lambda index: spread(seed ^ hashes[index])), ()
    routing = features.routing
    if routing is not None and routing.strategy == _CHEAPEST:
        return band[chance.below(len(band))], ()
    candidates = among.candidates
    if among.has_stale and chance.below(EXPLORE_ONE_IN) == 0:
        stale = [index for index in band if candidates[index].is_stale]
        if stale:
            return stale[chance.below(len(stale))], ()
    one, other = (band[place] for place in chance.two_of(len(band)))
    loads = in_flight(candidates[one].name), in_flight(candidates[other].name)
    size = size_of(needed.prompt_tokens)
    waits_s = [
        (load + 1) * candidates[index].predicted_s(size, needed.answer_tokens)
        for index, load in zip((one, other), loads, strict=True)
    ]
    return (one if waits_s[0] <= waits_s[1] else other), loads


def _soundest(selection: Selection) -> Selection:
    """Return those that broke the fewest constraints lately."""
    least = min(each.open_failure_count for each in selection.candidates)
    return Selection([c for c in selection.candidates if c.open_failure_count == least])


def _scores(selection: Selection, needed: Estimate, *, is_fastest: bool) -> Sequence[int]:
    prompt, answer = needed.prompt_tokens, needed.answer_tokens
    if is_fastest:
        return selection.predicted_us(size_of(prompt), answer)
    if needed.is_sum:
        return [i + o for i, o in zip(selection.inputs, selection.outputs, strict=True)]
    costs = [
        prompt * i + answer * o for i, o in zip(selection.inputs, selection.outputs, strict=True)
    ]
    if selection.ceiling.request_pusd:
        return [cost + fee for cost, fee in zip(costs, selection.fees, strict=True)]
    return costs
