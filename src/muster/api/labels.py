"""Label selectors, in the grammar that clients know from Kubernetes."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from muster.domain.errors import QueryInvalid

_KEY = r"(?P<{0}>[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?)"
_VALUE = r"[A-Za-z0-9._-]*"
_TERM: Final = re.compile(
    rf"\s*(?:{_KEY.format('set')}\s+(?P<in>in|notin)\s*\((?P<values>[^()]*)\)"
    rf"|{_KEY.format('pair')}\s*(?P<equal>==|=|!=)\s*(?P<value>{_VALUE})"
    rf"|!\s*{_KEY.format('absent')}"
    rf"|{_KEY.format('present')})\s*(?:,|$)"
)


Term = re.Match[str]


def parse_selector(selector: str) -> Sequence[Term]:
    """The terms: `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k`, `!k`, by commas.

    Raises:
        QueryInvalid: it is of another form.
    """
    terms = []
    at = 0
    while at < len(selector.rstrip()):
        term = _TERM.match(selector, at)
        if term is None:
            raise QueryInvalid(
                f"labelSelector is {selector!r}; it must be terms of the form k=v, k!=v,"
                " k in (a,b), k notin (a,b), k or !k, separated by commas."
            )
        terms.append(term)
        at = term.end()
    return terms


def matches(labels: Mapping[str, str], terms: Sequence[Term]) -> bool:
    """Whether every term holds. A label that is not there satisfies `!=` and `notin`."""
    return all(_holds(labels, term) for term in terms)


def _holds(labels: Mapping[str, str], term: Term) -> bool:
    if key := term["set"]:
        is_among = labels.get(key) in {value.strip() for value in term["values"].split(",")}
        return is_among == (term["in"] == "in")
    if key := term["pair"]:
        return (labels.get(key) == term["value"]) == (term["equal"] != "!=")
    if key := term["absent"]:
        return key not in labels
    return term["present"] in labels
