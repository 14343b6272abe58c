"""The tree of errors, as its docstring draws it."""

import inspect
import re

from muster.domain import errors


def test_the_drawn_tree_names_each_error_once_and_nothing_else() -> None:
    tree, _, _ = inspect.cleandoc(errors.__doc__ or "").partition("`code`")

    drawn = sorted(re.findall(r"\b[A-Z]\w+", tree.partition("MusterError")[2]))

    there = [error for _, error in inspect.getmembers(errors, inspect.isclass)]
    assert drawn == sorted(
        error.__name__
        for error in there
        if issubclass(error, errors.MusterError) and error is not errors.MusterError
    )
