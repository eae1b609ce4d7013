"""The language of filters: from a Mongo-style mapping to a checked tree of conditions.

A filter is a mapping such as ``{"year": {"$gte": 2020}, "$or": [{"tag": "a"}, {"author.name": "Ada"}]}``. What each
operator means to those who write one, and the rules for missing keys, arrays, types and times, are in
``docs/filters.md``.

``parsing.parse_filter`` does all checks, keeps all limits, and leaves to a target what the tree says::

    AllOf(parts)   AnyOf(parts)             logic, in negation normal form: no "not" but at a leaf
    Condition(paths, test, negated, data)   a leaf: about the metadata, or the data
    RecordCondition(field, test, negated)   a leaf: about the record itself
        OneOf(values)                       the tests: $eq and $in (negated $ne and $nin),
        Compared(operator, operand)         $gt, $gte, $lt, $lte,
        Contains(operand)                   $contains,
        ContainsFolded(operand)             $icontains,
        StartsWith(operand)                 $prefix,
        Exists()                            $exists

A target has to treat every case of ``Node`` and of ``Test`` and nothing else: it meets no operator's name, and no
operand of a wrong type. It tells the cases apart by class: they are named tuples, which are quick to make, and as
tuples ``AllOf(parts) == AnyOf(parts)``.

**Times.** An operand that is a ``datetime`` (aware, in UTC) or a ``date`` asks about times, one that is text asks about
text. What is stored is text in either case. It counts as a time if it has one of two forms and names a day that there
is: ``YYYY-MM-DD`` is a day, ``YYYY-MM-DDThh:mm:ss`` with an offset (``Z`` or ``±hh:mm``) is an instant, in the years 1
to 9999 of UTC; a blank may stand for the ``T``, and decimals may follow the seconds, of which six count. Instants are
compared with instants as such. Where one side is a day, days are compared, that of an instant being its day in UTC. Any
other text is no time, and fails every test for one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from agentmem.filters.fields import RecordField
from agentmem.filters.paths import Path
from agentmem.types.values import Json, Time

Operand: TypeAlias = "Json | Time"
"""What metadata can hold, as ``types.values`` makes it, or a time. Inside of lists and dicts times are text. A bool is
no number."""


class OneOf(NamedTuple):
    """The value equals one of ``values``, or is an array with such an element. A missing value counts as null.

    Values are equal within their type only: numbers by their value (``1`` and ``1.0``, integers exact), text by its
    code points, times as instants or days, arrays element by element, objects by their keys and values in any order.
    Nothing equals one of none.
    """

    values: tuple[Operand, ...]


class Compared(NamedTuple):
    """The value stands to ``operand`` as ``operator`` says, or is an array with such an element.

    Numbers are compared with numbers, text with text by code points, times with times; a value of any other type fails.
    """

    operator: Literal[">", ">=", "<", "<="]
    operand: str | int | float | Time


class Contains(NamedTuple):
    """The value is text with ``operand`` in it, which then is text too, or an array with an element equal to it."""

    operand: Operand


class ContainsFolded(NamedTuple):
    """The same without regard to case, of text alone: as ``folding`` folds both sides."""

    operand: str


class StartsWith(NamedTuple):
    """The value is text that begins with ``operand``, code point by code point, or an array with such an element."""

    operand: str


class Exists(NamedTuple):
    """There is a value, be it null."""


Test: TypeAlias = OneOf | Compared | Contains | ContainsFolded | StartsWith | Exists
"""What is asked of one value. "Array with such an element" looks at its elements only, not into arrays among them."""


class Condition(NamedTuple):
    """Some value of the metadata passes ``test``; ``negated``: none does. There is no third outcome, such as NULL.

    A path holds at least one key, outermost first; keys are exact, and a number is a key too, not a position. It
    begins at the record's metadata, an empty object where there are none. Each key leads from an object to the value
    under it; from an array to what it leads to from each object in it (other elements are passed over, arrays among
    them too); from anything else, and from an object without the key, to a missing value, which stays missing for the
    keys that follow. The value at the end of the path is not spread, even if it is an array. So where arrays are on
    the way there may be several values, or none.

    With several ``paths`` the values of all of them count, apart from missing ones: those count on the first path
    alone, and only where no other leads to a value.

    With ``data`` they begin at the record's data, which may be anything: a path may be empty, and an array there is
    spread as one on the way. Without data everything is missing.
    """

    paths: tuple[Path, ...]
    test: Test
    negated: bool
    data: bool = False


class RecordCondition(NamedTuple):
    """A field of the record passes ``test``; ``negated``: it does not.

    A field without a value is null, and does not exist. ``values`` and ``operand`` are of the type that the field
    holds (``fields.FIELDS``), or null in a ``OneOf``; no field holds arrays or objects.
    """

    field: RecordField
    test: Test
    negated: bool


class AllOf(NamedTuple):
    """Every one of ``parts`` holds: two or more, none of them an ``AllOf``."""

    parts: tuple[Node, ...]


class AnyOf(NamedTuple):
    """At least one of ``parts`` holds: two or more, none of them an ``AnyOf``."""

    parts: tuple[Node, ...]


Node: TypeAlias = AllOf | AnyOf | Condition | RecordCondition
