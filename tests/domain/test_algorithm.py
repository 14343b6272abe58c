"""What a job makes of the values that its algorithm and its user give."""

import pytest

from muster.domain.algorithm import (
    Algorithm,
    Constraint,
    DeclaredInput,
    DeclaredParameter,
    Recipe,
    RemoteConstraint,
    check_channels,
    fill_in_parameters,
)
from muster.domain.errors import AlgorithmMismatch, HyperparameterInvalid, NotModifiable
from muster.domain.training import Parameter


def algorithm_with(*parameters: DeclaredParameter, **recipe: object) -> Algorithm:
    return Algorithm(
        id="a" * 32,
        project_id="p",
        workspace_id="0",
        name="mnist",
        description="",
        creator_name="ada",
        recipe=Recipe(parameters=parameters, **recipe),  # type: ignore[arg-type]  # by name
        created_at_ms=0,
        updated_at_ms=0,
    )


def test_own_values_go_before_defaults_and_what_has_neither_is_left_out() -> None:
    algorithm = algorithm_with(
        DeclaredParameter(name="a", value="1"),
        DeclaredParameter(name="b", value="2"),
        DeclaredParameter(name="c"),
    )

    filled = fill_in_parameters(
        algorithm, [Parameter(label="x", value=True), Parameter(label="b", value=9)]
    )

    assert [(p.label, p.text) for p in filled] == [("a", "1"), ("b", "9"), ("x", "true")]


def test_a_parameter_given_without_a_value_keeps_its_default() -> None:
    algorithm = algorithm_with(DeclaredParameter(name="a", value="1"))

    assert fill_in_parameters(algorithm, [Parameter(label="a")]) == (
        Parameter(label="a", value="1"),
    )


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        (Constraint(type="Integer"), ["0", "-7", "+12"], ["1.0", "1e3", "x"]),
        (Constraint(type="float"), ["1", "-0.5", "1e-3"], ["nan", "inf", "x"]),
        (Constraint(type="Boolean"), ["true", "False"], ["1", "yes"]),
        (Constraint(type="String"), ["x", "1"], ["a\0b"]),
        (Constraint(valid_type="Range", valid_range=("0", "1")), ["0", "1", ".5"], ["1.1", "-1"]),
        (Constraint(valid_type="Choice", valid_range=("x", "y")), ["x"], ["X", "z"]),
        (Constraint(valid_type="None", valid_range=("x",)), ["z"], []),
    ],
)
def test_values_are_held_against_their_rules(
    rules: Constraint, good: list[str], bad: list[str]
) -> None:
    algorithm = algorithm_with(DeclaredParameter(name="a", constraint=rules))

    for text in good:
        [filled] = fill_in_parameters(algorithm, [Parameter(label="a", value=text)])
        assert filled.text == text
    for text in bad:
        with pytest.raises(HyperparameterInvalid, match=r"algorithm\.parameters: a"):
            fill_in_parameters(algorithm, [Parameter(label="a", value=text)])


def test_a_fixed_parameter_without_a_default_takes_none() -> None:
    algorithm = algorithm_with(DeclaredParameter(name="a", constraint=Constraint(editable=False)))

    assert fill_in_parameters(algorithm, []) == ()
    with pytest.raises(NotModifiable):
        fill_in_parameters(algorithm, [Parameter(label="a", value="1")])


def test_where_no_inputs_are_declared_any_will_do() -> None:
    check_channels(algorithm_with(), "inputs", ["anything"])


def test_an_input_that_takes_data_sets_only_takes_no_bucket() -> None:
    kinds = (RemoteConstraint(data_type="dataset"),)
    one = DeclaredInput(name="data", remote_constraints=kinds)
    both = DeclaredInput(
        name="data", remote_constraints=(*kinds, RemoteConstraint(data_type="OBS"))
    )

    with pytest.raises(AlgorithmMismatch, match="dataset"):
        check_channels(algorithm_with(inputs=(one,)), "inputs", ["data"])
    check_channels(algorithm_with(inputs=(both,)), "inputs", ["data"])
