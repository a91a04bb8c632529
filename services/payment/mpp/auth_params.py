r"""The grammar around challenges: schemes and their parameters in a WWW-Authenticate value.

Pure. Source: RFC 9110 section 11.6.1; `\uXXXX` in quoted strings as the payment SDKs write it.
"""

import re
from typing import Final

HEADER_CHARS_MAX: Final = 65_536
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 - a grammar, no secret
_GAP: Final = re.compile(r"[ \t,]*+")
_PARAMETER: Final = re.compile(rf'({_TOKEN})[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|({_TOKEN}))')
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]++=*+(?=[ \t]*+(?:,|\Z))")
_SCHEME: Final = re.compile(rf"({_TOKEN})(?:[ \t]++|(?=,|\Z))")
_END: Final = re.compile(r"[ \t]*+(?:,|\Z)")
_ESCAPED: Final = re.compile(r"((?:\\u[0-9a-fA-F]{4})++)|\\(.)", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN_LAST: Final = 0x7E


def quoted(text: str) -> str:
    """Return a quoted string in ASCII.

    Raises:
        ValueError: A control character or a lone surrogate.
    """
    if _CONTROL.search(text):
        raise ValueError("A control character cannot be in a header.")
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    if ord(character) <= _PLAIN_LAST:
        return character
    # Latin-1 too: aiohttp writes UTF-8 where clients read Latin-1.
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def schemes(header: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each challenge as its scheme and its parameters, names in lower case.

    A token68 is passed over.

    Raises:
        ValueError: The value is no list of challenges, or longer than `HEADER_CHARS_MAX`.
    """
    if len(header) > HEADER_CHARS_MAX:
        raise ValueError(f"Header has {len(header)} characters; at most {HEADER_CHARS_MAX} fit.")
    found: list[tuple[str, list[tuple[str, str]]]] = []
    at = _past(_GAP, header, 0)
    while at < len(header):
        if found and (parameter := _PARAMETER.match(header, at)):
            name, text, token = parameter.groups()
            found[-1][1].append((name.lower(), token if text is None else _unescaped(text)))
            at = parameter.end()
        elif scheme := _SCHEME.match(header, at):
            found.append((scheme[1], []))
            at = _past(_TOKEN68, header, scheme.end())
            if at == scheme.end() and _PARAMETER.match(header, at):
                continue
        else:
            raise ValueError("Header is no list of challenges.")
        if not _END.match(header, at):
            raise ValueError("Header is no list of challenges.")
        at = _past(_GAP, header, at)
    return found


def _past(pattern: re.Pattern[str], header: str, at: int) -> int:
    found = pattern.match(header, at)
    return found.end() if found else at


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(_character, text)


def _character(found: re.Match[str]) -> str:
    units, character = found.groups()
    if units is None:
        return str(character)
    return bytes.fromhex(units.replace("\\u", "")).decode("utf-16-be")
