"""Where a setting comes from, and what is refused."""

import os
from pathlib import Path
from typing import Any, Final

import pytest

from muster.settings import (
    SettingInvalid,
    Settings,
    default_data_folder,
    load_settings,
    unknown_variables,
)

# A setting, what the file, the environment and the flag say, and the default.
SOURCES: Final = [
    ("port", "7001", "7002", 7003, 8080),
    ("host", '"localhost"', "::1", "127.0.0.1", "127.0.0.1"),
    ("job_quota", "1", "2", 3, 100_000),
    ("isolation", '"off"', "users", "bubblewrap", "auto"),
    ("stop_grace_seconds", "1.5", "2.5", 3.5, 10.0),
    ("sample_seconds", "0.5", "1.5", 2.5, 10.0),
    ("metrics_hours", "1", "2", 3, 168),
    ("archive_after_days", "30", "60", 90, 0),
    ("log_level", '"debug"', "warning", "error", "info"),
]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MUSTER_")]:
        monkeypatch.delenv(name)


def with_file(data: Path, text: str) -> Path:
    (data / "muster.toml").write_text(text)
    return data


def refusal_of(data: Path, **flags: Any) -> str:
    with pytest.raises(SettingInvalid) as refused:
        load_settings(data, flags)
    return refused.value.message


@pytest.mark.parametrize(("name", "line", "variable", "flag", "default"), SOURCES)
def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    line: str,
    variable: str,
    flag: Any,
    default: Any,
) -> None:
    def found(given: Any = None) -> Any:
        return getattr(load_settings(tmp_path, {name: given}), name)

    assert found() == default
    with_file(tmp_path, f"{name} = {line}")
    assert str(found()) == line.strip('"')
    monkeypatch.setenv(f"MUSTER_{name.upper()}", variable)
    assert str(found()) == variable
    assert found(flag) == flag


def test_values_have_the_types_that_the_settings_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_PORT", "0")
    monkeypatch.setenv("MUSTER_INVENTORY", "cluster.toml")
    monkeypatch.setenv("MUSTER_STOP_GRACE_SECONDS", "3")
    monkeypatch.setenv("MUSTER_ALLOW_PLAIN_HTTP", "yes")

    settings = load_settings(tmp_path, {})

    assert settings == Settings(
        data=tmp_path,
        port=0,
        inventory=Path("cluster.toml"),
        stop_grace_seconds=3.0,
        allow_plain_http=True,
    )


def test_everything_lies_in_the_data_folder_unless_told_otherwise(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert settings.store == tmp_path / "muster.db"
    assert settings.objects_folder == tmp_path / "objects"

    settings = load_settings(tmp_path, {"database": "/srv/a.db", "objects": "/srv/objects"})
    assert settings.store == Path("/srv/a.db")
    assert settings.objects_folder == Path("/srv/objects")


def test_a_line_may_be_spelled_like_its_flag(tmp_path: Path) -> None:
    with_file(tmp_path, "job-quota = 7")

    assert load_settings(tmp_path, {}).job_quota == 7


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("port =", "is not valid TOML"),
        ("prot = 80", "sets 'prot'; there is no such setting. There are allow_plain_http, "),
        ("data = '/elsewhere'", "sets 'data'; there is no such setting"),
        ("port = 'http'", "sets port to 'http'"),
        ("port = [80]", "sets port to [80]"),
        ("port = true", "sets port to True: it must be a whole number"),
        ("port = 80.5", "sets port to 80.5: it must be a whole number"),
        ("inventory = 7", "sets inventory to 7"),
        ("allow_plain_http = 'maybe'", "sets allow_plain_http to 'maybe': it must be true or"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused_with_its_file(
    tmp_path: Path, line: str, complaint: str
) -> None:
    message = refusal_of(with_file(tmp_path, line))

    assert message.startswith(str(tmp_path / "muster.toml"))
    assert complaint in message


def test_a_variable_that_nothing_reads_is_told_with_the_one_that_may_be_meant() -> None:
    known = {"MUSTER_PORT": "1", "MUSTER_DATA": "d", "MUSTER_URL": "u", "PATH": "p"}

    assert unknown_variables(known) == {}
    assert unknown_variables(known | {"MUSTER_PROT": "1", "MUSTER_OF_PUPPETS": ""}) == {
        "MUSTER_OF_PUPPETS": None,
        "MUSTER_PROT": "MUSTER_PORT",
    }


def test_a_variable_that_makes_no_sense_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_JOB_QUOTA", "many")

    assert refusal_of(tmp_path).startswith("the environment sets job_quota to 'many'")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"port": 65_536}, "port is 65536; it must be from 0 to 65535"),
        ({"port": -1}, "port is -1; it must be from 0"),
        ({"job_quota": -1}, "job_quota is -1"),
        ({"token_hours": 0}, "token_hours is 0; it must be from 1"),
        ({"stop_grace_seconds": "nan"}, "stop_grace_seconds is nan"),
        ({"lost_timeout_seconds": -5}, "lost_timeout_seconds is -5"),
        ({"sample_seconds": 0}, "sample_seconds is 0.0; it must be from 0.1 to 3600"),
        ({"metrics_hours": 9000}, "metrics_hours is 9000; it must be from 1 to 8760"),
        ({"archive_after_days": -1}, "archive_after_days is -1; it must be from 0 to 36500"),
        ({"engine": "ray"}, "engine is 'ray'"),
        ({"database": "mysql://x"}, "database begins with 'mysql://'; it must be a file's path or"),
        ({"database": "postgresql:main"}, "database begins with 'postgresql:' without '//'; an"),
        ({"database": "postgres:/main"}, "database begins with 'postgres:' without '//'"),
        ({"objects": "gs://bucket"}, "objects is 'gs://bucket'; it must be a folder's path, s3://"),
        (
            {"objects": "s3://B"},
            "objects is 's3://B'; it must be s3:// for buckets of your account",
        ),
        ({"objects": "s3://bucket/a/../b"}, "a prefix without empty parts, '.' and '..'"),
        ({"objects": "s3://", "s3_access_key": "k"}, "s3_access_key and s3_secret_key belong"),
        ({"objects": "s3://", "s3_endpoint": "here"}, "s3_endpoint is 'here'; it must be like"),
        (
            {"objects": "s3://", "s3_endpoint": "http://minio.example.org:9000"},
            "all objects would cross the network in the clear",
        ),
        ({"statistics_total": "all"}, "statistics_total is 'all'; it must be 'entries' or 'jobs'"),
        ({"tls_cert": "c.pem"}, "--tls-cert and --tls-key belong together"),
        ({"host": "0.0.0.0"}, "keys and tokens would cross the network in the clear"),  # noqa: S104
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(
    tmp_path: Path, flags: dict[str, Any], complaint: str
) -> None:
    assert complaint in refusal_of(tmp_path, **flags)


@pytest.mark.parametrize(
    "flags", [{"allow_plain_http": True}, {"tls_cert": "c.pem", "tls_key": "k.pem"}]
)
def test_other_addresses_are_served_with_tls_or_on_demand(
    tmp_path: Path, flags: dict[str, Any]
) -> None:
    settings = load_settings(tmp_path, {"host": "0.0.0.0", **flags})  # noqa: S104

    assert settings.host == "0.0.0.0"  # noqa: S104


def test_the_data_folder_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_DATA", str(tmp_path / "data"))
    assert default_data_folder() == tmp_path / "data"

    monkeypatch.delenv("MUSTER_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_folder() == tmp_path / "muster"


AWS: Final = {
    "AWS_ACCESS_KEY_ID": "theirs",
    "AWS_SECRET_ACCESS_KEY": "their secret",
    "AWS_SESSION_TOKEN": "their token",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_DEFAULT_REGION": "eu-west-1",
}


def test_what_aws_tools_read_counts_for_s3_where_nothing_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)

    found = load_settings(tmp_path, {"objects": "s3://bucket/prefix"})

    assert (found.s3_endpoint, found.s3_region) == ("http://127.0.0.1:1", "eu-west-1")
    assert (found.s3_access_key, found.s3_secret_key) == ("theirs", "their secret")
    assert found.s3_session_token == "their token"  # noqa: S105
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.org")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    found = load_settings(tmp_path, {"objects": "s3://bucket/prefix"})
    assert (found.s3_endpoint, found.s3_region) == ("https://s3.example.org", "eu-north-1")


def test_keys_of_our_own_are_not_mixed_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MUSTER_S3_ACCESS_KEY", "ours")
    monkeypatch.setenv("MUSTER_S3_SECRET_KEY", "our secret")

    found = load_settings(tmp_path, {"objects": "s3://"})

    assert (found.s3_access_key, found.s3_secret_key) == ("ours", "our secret")
    assert found.s3_session_token is None


def test_without_s3_the_variables_of_aws_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)

    assert load_settings(tmp_path, {}) == Settings(data=tmp_path)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    flags = {"objects": "s3://", "s3_access_key": "k", "s3_secret_key": "hush"}

    settings = load_settings(tmp_path, flags | {"s3_session_token": "hush"})

    assert "hush" not in repr(settings)


def test_an_isolation_that_there_is_not_is_refused(tmp_path: Path) -> None:
    assert refusal_of(tmp_path, isolation="docker") == (
        "isolation is 'docker'; it must be 'auto', 'users', 'bubblewrap' or 'off'."
    )


def test_a_data_folder_that_no_file_system_can_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 300)

    with pytest.raises(SettingInvalid) as refused:
        load_settings(folder, {})

    assert refused.value.message == f"{folder}/muster.toml cannot be read (File name too long)."
