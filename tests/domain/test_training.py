"""The rules that a config alone can break: each refusal says which field, what, and what may be."""

import re
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.errors import InvalidRequest
from muster.domain.training import (
    DESCRIPTION_LENGTH_MAX,
    PARAMETERS_MAX,
    RETRY_ANNOTATION,
    URL_LENGTH_MAX,
    VALUE_LENGTH_MAX,
    WORKERS_MAX,
    DataSource,
    Parameter,
    TimeLimit,
    TimeUnit,
    TrainingConfig,
    V1Config,
    check_config,
    check_description,
    check_name,
)

GOOD: Final = TrainingConfig(
    worker_server_num=1,
    app_url="/code/digits/",
    boot_file_url="/code/digits/train.py",
    spec_id=1,
)


@pytest.mark.parametrize(
    "config",
    [
        GOOD,
        replace(GOOD, worker_server_num=WORKERS_MAX),
        replace(GOOD, spec_id=None, pool_id="research-1"),
        replace(GOOD, spec_id=None, elastic_flavor="modelarts.pool.visual.xlarge"),
        replace(GOOD, annotations={RETRY_ANNOTATION: "3", "note": "anything"}),
        replace(GOOD, auto_stop=TimeLimit(time_unit=TimeUnit.HOURS, duration=87_600)),
        replace(GOOD, data_url="/data/digits/"),
        replace(GOOD, data_url="", dataset_id="", data_source=()),  # clients send empty ones
        replace(GOOD, data_source=(DataSource(type="obs", data_url="/data/digits/"),)),
        replace(GOOD, app_url=None, boot_file_url=None, user_image_url="registry/image:1"),
        replace(GOOD, app_url=None, boot_file_url=None, model_id=7),
        replace(GOOD, parameter=(Parameter(label="x" * 128, value="y" * VALUE_LENGTH_MAX),)),
        replace(GOOD, app_url="/" + "a" * (URL_LENGTH_MAX - 1)),
    ],
)
def test_what_is_allowed_passes(config: TrainingConfig) -> None:
    check_config(config)


@pytest.mark.parametrize(
    ("change", "field", "value", "allowed"),
    [
        ({"worker_server_num": None}, "config.worker_server_num", "missing", "1 or more"),
        ({"worker_server_num": 0}, "config.worker_server_num", "is 0", "from 1 to 1000"),
        ({"worker_server_num": -3}, "config.worker_server_num", "is -3", "from 1 to 1000"),
        ({"worker_server_num": 1001}, "config.worker_server_num", "is 1001", "from 1 to 1000"),
        (
            {"annotations": {RETRY_ANNOTATION: "4"}},
            f"metadata.annotations.{RETRY_ANNOTATION}",
            "'4'",
            "'1' to '3'",
        ),
        (
            {"auto_stop": TimeLimit(time_unit=TimeUnit.MINUTES, duration=0)},
            "spec.auto_stop",
            "0 MINUTES",
            "1 minute to 87600 hours",
        ),
        (
            {"auto_stop": TimeLimit(time_unit=TimeUnit.HOURS, duration=87_601)},
            "spec.auto_stop",
            "87601 HOURS",
            "1 minute to 87600 hours",
        ),
        ({"app_url": None}, "config.app_url", "missing", "app_url and boot_file_url"),
        ({"app_url": ""}, "config.app_url", "missing", "app_url and boot_file_url"),
        ({"boot_file_url": None}, "config.boot_file_url", "missing", "user_image_url"),
        ({"spec_id": None}, "config.spec_id", "is given", "config.pool_id"),
        ({"spec_id": None, "pool_id": ""}, "config.pool_id", "is given", "at least one"),
        (
            {"data_url": "/d/", "dataset_id": "x"},
            "data_url and dataset_id",
            "config has",
            "only one",
        ),
        (
            {"data_url": "/d/", "data_source": (DataSource(type="obs", data_url="/d/"),)},
            "data_url and data_source",
            "config has",
            "only one",
        ),
        (
            {"data_source": (DataSource(type="ftp", data_url="/d/"),)},
            "config.data_source[0].type",
            "'ftp'",
            "'obs' or 'dataset'",
        ),
        (
            {"data_source": (DataSource(type="obs"),)},
            "config.data_source[0].data_url",
            "missing",
            "needs it",
        ),
        (
            {"data_source": (DataSource(type="obs", data_url="/d/"),) * 2},
            "config.data_source",
            "2 entries",
            "takes one",
        ),
        (
            {"parameter": (Parameter(label="a"),) * (PARAMETERS_MAX + 1)},
            "config.parameter",
            "501 entries",
            "at most 500",
        ),
        (
            {"parameter": (Parameter(label="lr"), Parameter(label="a b"))},
            "config.parameter[1].label",
            "'a b'",
            "without blanks and '='",
        ),
        ({"parameter": (Parameter(label=""),)}, "config.parameter[0].label", "''", "1 to 128"),
        ({"parameter": (Parameter(label="-x"),)}, "parameter[0].label", "'-x'", "not begin with"),
        (
            {"parameter": (Parameter(label="x" * 129),)},
            "parameter[0].label",
            "'xxx",
            "128 characters",
        ),
        (
            {"parameter": (Parameter(label="a", value="x\0"),)},
            "config.parameter[0].value",
            "zero byte",
            "",
        ),
        (
            {"parameter": (Parameter(label="a", value="y" * (VALUE_LENGTH_MAX + 1)),)},
            "config.parameter[0].value",
            "16385 characters",
            "at most 16384",
        ),
        (
            {"train_url": "/" + "a" * URL_LENGTH_MAX},
            "config.train_url",
            "1101 characters",
            "at most 1100",
        ),
    ],
)
def test_each_refusal_names_the_field_the_value_and_what_is_allowed(
    change: dict[str, Any], field: str, value: str, allowed: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_config(replace(GOOD, **change))

    message = refused.value.message
    assert field in message
    assert value in message
    assert allowed in message


def test_a_long_value_is_shown_short() -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_name("job_name", "n" * 10_000)

    assert len(refused.value.message) < 300
    assert "job_name is 'nnn" in refused.value.message


@given(st.text(max_size=80))
def test_a_name_is_letters_digits_underscores_and_dashes(name: str) -> None:
    is_good = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name, re.ASCII) is not None

    if is_good:
        check_name("job_name", name)
        return
    with pytest.raises(InvalidRequest, match="job_name is "):
        check_name("job_name", name)


@pytest.mark.parametrize("name", ["a\n", "a b", "", "ä", "a/b", "x" * 65])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 64 letters"):
        check_name("job_name", name)


def test_a_description_has_a_bound() -> None:
    check_description("job_desc", "d" * DESCRIPTION_LENGTH_MAX)

    with pytest.raises(InvalidRequest, match="job_desc has 257 characters; at most 256"):
        check_description("job_desc", "d" * (DESCRIPTION_LENGTH_MAX + 1))


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (None, ""), (3, "3"), (0.5, "0.5"), ("x y", "x y")],
)
def test_a_parameter_of_any_scalar_type_has_a_text(value: Any, text: str) -> None:
    assert Parameter(label="p", value=value).text == text


@given(
    st.builds(
        TrainingConfig,
        worker_server_num=st.none() | st.integers(),
        app_url=st.none() | st.just("") | st.text(max_size=5),
        boot_file_url=st.none() | st.text(max_size=5),
        spec_id=st.none() | st.integers(),
        pool_id=st.none() | st.text(max_size=5),
        parameter=st.none() | st.lists(st.builds(Parameter, label=st.text(max_size=5))).map(tuple),
        data_url=st.none() | st.text(max_size=5),
        dataset_id=st.none() | st.text(max_size=5),
    )
)
def test_nothing_but_a_refusal_comes_of_any_config(config: TrainingConfig) -> None:
    with suppress(InvalidRequest):
        check_config(config)


def test_a_config_alone_is_what_it_is_over_nothing() -> None:
    config = V1Config(worker_server_num=4, app_url="/b/code/", parameter=(Parameter(label="a"),))

    assert config.alone() == config.over(TrainingConfig())
    assert config.alone().worker_server_num == 4


def test_a_new_version_takes_from_the_one_before_what_it_does_not_say_itself() -> None:
    base = replace(GOOD, train_url="/out/", parameter=(Parameter(label="lr", value=0.1),))

    config = TrainingConfig(worker_server_num=4, parameter=()).over(base)

    assert config == replace(base, worker_server_num=4, parameter=())


def test_the_data_may_be_named_in_either_way() -> None:
    source = DataSource(type="obs", data_url="/data/a/")

    assert replace(GOOD, data_source=(source,)).input_url == "/data/a/"
    assert replace(GOOD, data_url="/data/b/").input_url == "/data/b/"
    assert replace(GOOD, data_url="").input_url is None


@pytest.mark.parametrize(("annotation", "retries"), [(None, 0), ("", 0), ("0", 0), ("2", 2)])
def test_an_annotation_says_how_often_a_job_is_tried_again(
    annotation: str | None, retries: int
) -> None:
    annotations = None if annotation is None else {RETRY_ANNOTATION: annotation}

    assert replace(GOOD, annotations=annotations).retries == retries


def test_a_time_limit_counts_in_its_unit() -> None:
    assert TimeLimit(time_unit=TimeUnit.HOURS, duration=2).milliseconds == 7_200_000
    assert TimeLimit(time_unit=TimeUnit.MINUTES, duration=2).milliseconds == 120_000
