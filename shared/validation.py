"""The words of pydantic's errors, in the form in which clients and operators read them."""

import re

_RULES = {"missing": "is required", "extra_forbidden": "is not known here; leave it out"}
# How pydantic begins a rule: "Input should be greater than or equal to 1".
_SUBJECT = re.compile(r"^(?:Value error, |Assertion failed, )?(?:(?:\w+ )+should|value is) ")
_VALUE_ERROR = "Value error, "
_PREDICATES = ("must ", "is ", "has ", "does ", "needs ")


def rule_of(kind: str, message: str) -> str:
    """Return the rule that a value breaks, as the continuation of "The field name …".

    `kind` and `message` are the `type` and the `msg` of a pydantic error. "Input should be at
    least 1" becomes "must be at least 1".
    """
    if kind in _RULES:
        return _RULES[kind]
    rule = _SUBJECT.sub(_predicate, message, count=1).removeprefix(_VALUE_ERROR)
    return rule if rule.startswith(_PREDICATES) else f"is not valid: {rule}"


def _predicate(subject: re.Match[str]) -> str:
    return "is " if subject[0].endswith("value is ") else "must "
