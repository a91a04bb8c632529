"""Tiers: limits with a name, for the keys that set none of their own. Pure."""

from collections.abc import Mapping

from kit.errors import Reason, TurnpikeError
from services.auth.keys import KeySpec
from services.auth.limits import Limits


class Tiers:
    """The tiers the owner set; `default` names the one for keys that ask for none."""

    def __init__(self, by_name: Mapping[str, Limits], *, default: str) -> None:
        self._by_name = dict(by_name)
        self._default = default

    def check(self, name: str) -> str:
        """Return the name of a known tier, the default one for an empty name.

        Raises:
            TurnpikeError: INVALID_VALUE with `param=tier`.
        """
        if name and name not in self._by_name:
            message = f"tier is unknown; known are {', '.join(sorted(self._by_name))}."
            raise TurnpikeError(Reason.INVALID_VALUE, message, param="tier")
        return name or self._default

    def limits_of(self, spec: KeySpec) -> Limits:
        """Return the limits in force for a key; a tier that is gone counts as the default one."""
        return spec.limits(self._by_name.get(spec.tier, self._by_name[self._default]))
