"""What a job is made of that names an algorithm: the algorithm's code, and both their values."""

from collections.abc import Sequence
from typing import Final

import msgspec

from muster.domain import errors
from muster.domain.algorithm import (
    Algorithm,
    DeclaredOutput,
    Recipe,
    check_channels,
    fill_in_parameters,
)
from muster.domain.training import Parameter
from muster.wire import training_v2 as shapes
from muster.wire.decode import shown

_WHAT_TO_RUN: Final = ("code_dir", "boot_file", "command")
_ENGINE: Final = ("engine_id", "engine_name", "engine_version", "image_url")


def filled_in(given: shapes.GivenAlgorithm, algorithm: Algorithm) -> shapes.GivenAlgorithm:
    """What is given, with everything that the algorithm says besides.

    Raises:
        AlgorithmMismatch: the job asks for something else than the algorithm is.
        HyperparameterInvalid, HyperparameterTaken, NotModifiable: names the parameter.
    """
    recipe = algorithm.recipe
    engine = _engine_of(recipe)
    for name in _WHAT_TO_RUN:
        _check_same(f"algorithm.{name}", getattr(given, name), getattr(recipe, name), algorithm)
    for name in _ENGINE if given.engine else ():
        own = getattr(given.engine, name)
        _check_same(f"algorithm.engine.{name}", own, getattr(engine, name), algorithm)
    inputs, outputs = given.inputs or [], given.outputs or []
    check_channels(algorithm, "inputs", [channel.name for channel in inputs])
    check_channels(algorithm, "outputs", [channel.name for channel in outputs])
    own_parameters = [Parameter(label=p.name, value=p.value) for p in given.parameters or ()]
    return msgspec.structs.replace(
        given,
        code_dir=recipe.code_dir or None,
        boot_file=recipe.boot_file or None,
        command=recipe.command or None,
        engine=engine,
        parameters=[
            shapes.NamedValue(name=p.label, value=p.value)
            for p in fill_in_parameters(algorithm, own_parameters)
        ],
        inputs=_described(inputs, recipe.inputs),
        outputs=_described(outputs, recipe.outputs),
    )


def _engine_of(recipe: Recipe) -> shapes.GivenEngine:
    if recipe.engine is None:
        return shapes.GivenEngine(image_url=recipe.image_url)
    return shapes.GivenEngine(
        engine_id=recipe.engine.engine_id,
        engine_name=recipe.engine.engine_name,
        engine_version=recipe.engine.engine_version,
    )


def _check_same(field: str, given: str | None, own: str | None, algorithm: Algorithm) -> None:
    if given and given != own:
        raise errors.AlgorithmMismatch(
            f"{field} is {shown(given)}; algorithm {algorithm.name!r} has {shown(own or '')}. Leave"
            " it out beside algorithm.id."
        )


def _described(
    given: Sequence[shapes.GivenChannel], declared: Sequence[DeclaredOutput]
) -> list[shapes.GivenChannel]:
    words = {channel.name: channel.description for channel in declared}
    return [
        msgspec.structs.replace(channel, description=channel.description or words.get(channel.name))
        for channel in given
    ]
