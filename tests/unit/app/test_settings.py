"""Settings come from layers, upper ones win, and mistakes are told with their place."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.settings import Settings, load_settings
from app.settings_layers import ConfigError
from app.settings_report import effective, example_yaml, file_schema


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str) -> Path:
    path = Path("turnpike.yaml")
    path.write_text(text)
    return path


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings()
    return str(caught.value)


def test_no_setting_at_all_is_enough() -> None:
    loaded = load_settings()

    assert None is loaded.config_path
    assert ("127.0.0.1", 3000) == (loaded.settings.gateway.host, loaded.settings.gateway.port)
    assert 3001 == loaded.settings.admin.port_for("all")
    assert "default" == loaded.source(("gateway", "port"))


def test_upper_layers_win_value_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    write("secrets_dir: secrets\ngateway: {port: 1111, host: 127.0.0.2}\nnats: {port: 1112}\n")
    Path("secrets").mkdir()
    Path("secrets/admin__token").write_text("from-file\n")
    Path("secrets/nats__port").write_text("2222")
    monkeypatch.setenv("TURNPIKE__GATEWAY__PORT", "3333")
    monkeypatch.setenv("TURNPIKE__TRITON__GRPC_PORT", "3334")

    loaded = load_settings(flags={"triton": {"grpc_port": 4444}})

    assert 3333 == loaded.settings.gateway.port
    assert "127.0.0.2" == loaded.settings.gateway.host
    assert 2222 == loaded.settings.nats.port
    assert 4444 == loaded.settings.triton.grpc_port
    assert SecretStr("from-file") == loaded.settings.admin.token
    assert "TURNPIKE__GATEWAY__PORT" == loaded.source(("gateway", "port"))
    assert "turnpike.yaml:2" == loaded.source(("gateway", "host"))
    assert "secrets/nats__port" == loaded.source(("nats", "port"))
    assert "--triton.grpc-port" == loaded.source(("triton", "grpc_port"))


def test_hidden_files_beside_a_mounted_secret_are_passed_over() -> None:
    folder = Path("mounted")
    (folder / "..data").mkdir(parents=True)
    (folder / ".hidden").write_text("x")
    (folder / "admin__token").write_text("t")

    loaded = load_settings(flags={"secrets_dir": "mounted"})

    assert "t" == loaded.settings.admin.token.get_secret_value()


def test_unknown_key_is_refused_with_its_line_and_path() -> None:
    write("router:\n  attempts_max: 2\n  attempts_mx: 3\n")

    assert "turnpike.yaml:3: router.attempts_mx: there is no such setting." == refusal()


def test_unknown_section_is_refused_with_its_line() -> None:
    write("# a comment\nrouters:\n  attempts_max: 2\n")

    assert "turnpike.yaml:2: routers: there is no such setting." == refusal()


def test_wrong_value_is_refused_with_its_line() -> None:
    write("nats:\n  port: 70000\n")

    assert refusal().startswith("turnpike.yaml:2: nats.port: Input should be less than")


def test_text_that_is_no_yaml_is_refused_with_its_line() -> None:
    write("nats:\n  port: [1\n")

    assert refusal().startswith("turnpike.yaml:3: ")


@pytest.mark.parametrize(
    "name", ["TURNPIKE__ROUTER__ATTEMPTS_MX", "TURNPIKE__ROUTERS__X", "TURNPIKE__CATALOGUE__X"]
)
def test_variable_that_names_no_setting_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")

    assert name in refusal()


def test_wrong_variable_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNPIKE__ROUTER__ATTEMPTS_MAX", "many")

    assert refusal().startswith("TURNPIKE__ROUTER__ATTEMPTS_MAX: router.attempts_max: ")


def test_named_file_that_is_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_settings(Path("nowhere.yaml"))


def test_secret_in_the_file_is_refused_with_the_way_out() -> None:
    write("admin:\n  token: hunter2\n")

    said = refusal()

    assert said.startswith("turnpike.yaml:2: admin.token: ")
    assert "TURNPIKE__ADMIN__TOKEN" in said
    assert "hunter2" not in said


MASTER_KEY = "bWFzdGVyLWtleS1jYW5hcnktb2YtMzItYnl0ZXMtMDE="


def test_secret_of_a_mapping_in_the_file_is_refused_as_well() -> None:
    write(f"router:\n  byok_keys:\n    one: {MASTER_KEY}\n")

    said = refusal()

    assert said.startswith("turnpike.yaml:3: router.byok_keys.one: ")
    assert "TURNPIKE__ROUTER__BYOK_KEYS__ONE" in said
    assert MASTER_KEY not in said


def test_master_keys_come_from_variables_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "router__byok_keys__two").write_text(MASTER_KEY + "\n")
    monkeypatch.setenv("TURNPIKE__SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("TURNPIKE__ROUTER__BYOK_KEYS__ONE", MASTER_KEY)
    monkeypatch.setenv("TURNPIKE__ROUTER__BYOK_KEY_ID", "two")

    loaded = load_settings()

    assert {"one", "two"} == set(loaded.settings.router.byok_keys)
    assert "two" == loaded.settings.router.sealing_ring().current
    shown = {entry["key"]: entry["value"] for entry in effective(loaded)}
    assert "***" == shown["router.byok_keys.one"] == shown["router.byok_keys.two"]
    assert MASTER_KEY not in repr(loaded)


def test_secret_of_a_list_in_the_file_is_refused_as_well() -> None:
    write("payment:\n  mpp:\n    secrets: [hunter2]\n")

    said = refusal()

    assert said.startswith("turnpike.yaml:3: payment.mpp.secrets: a secret does not belong")
    assert "TURNPIKE__PAYMENT__MPP__SECRETS" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("is_file", [True, False])
def test_list_of_secrets_is_json_in_a_variable_and_in_a_file(
    is_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '["canary-new", "canary-old"]'
    if is_file:
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "payment__mpp__secrets").write_text(text + "\n")
        monkeypatch.setenv("TURNPIKE__SECRETS_DIR", str(tmp_path / "secrets"))
    else:
        monkeypatch.setenv("TURNPIKE__PAYMENT__MPP__SECRETS", text)

    loaded = load_settings()

    found = loaded.settings.payment.mpp.secrets
    assert ["canary-new", "canary-old"] == [each.get_secret_value() for each in found]
    shown = {entry["key"]: entry["value"] for entry in effective(loaded)}
    assert ["***", "***"] == shown["payment.mpp.secrets"]
    assert "canary" not in repr(loaded)


@pytest.mark.parametrize("text", ["hunter2", '["hunter2", ""]', '{"hunter2": 1}'])
def test_wrong_list_of_secrets_is_refused_and_not_shown(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "payment__mpp__secrets").write_text(text)
    monkeypatch.setenv("TURNPIKE__SECRETS_DIR", str(tmp_path))

    said = refusal()

    assert "payment.mpp.secrets" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("keys", "key_id", "words"),
    [
        ({"one": "too-short-canary"}, "", "32 bytes"),
        ({"one": "canary !"}, "", "base64"),
        ({"one": MASTER_KEY}, "two", "two"),
        ({"one": MASTER_KEY, "two": MASTER_KEY}, "", "byok_key_id"),
    ],
)
def test_ring_of_master_keys_that_does_not_fit_is_refused_without_a_word_of_them(
    keys: dict[str, str], key_id: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, key in keys.items():
        monkeypatch.setenv(f"TURNPIKE__ROUTER__BYOK_KEYS__{name.upper()}", key)
    monkeypatch.setenv("TURNPIKE__ROUTER__BYOK_KEY_ID", key_id)

    with pytest.raises(ConfigError) as caught:
        load_settings()

    said = str(caught.value) + repr(caught.value.__cause__) + str(caught.value.__cause__)
    assert words in str(caught.value)
    assert "canary" not in said
    assert MASTER_KEY not in said


def test_catalogue_of_the_file_is_left_to_the_router() -> None:
    write("catalogue:\n  anything: [goes, here]\ngateway: {port: 5}\n")

    assert 5 == load_settings().settings.gateway.port


def test_section_with_nothing_in_it_is_the_default() -> None:
    write("db:\nnats:\n  # port: 1\n")

    assert None is load_settings().settings.db.auto_upgrade


def test_databases_lie_in_the_state_folder_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNPIKE__STATE_DIR", "elsewhere")
    monkeypatch.setenv("TURNPIKE__PAYMENT__DATABASE_URL", "postgresql+asyncpg://u:p@db/pay")

    settings = load_settings().settings

    assert "sqlite+aiosqlite:///elsewhere/auth.db" == settings.auth.database_url
    assert "postgresql+asyncpg://u:p@db/pay" == settings.payment.database_url


def test_admin_port_on_every_interface_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNPIKE__ADMIN__HOST", "0.0.0.0")

    assert "admin.token has to be set" in refusal()

    monkeypatch.setenv("TURNPIKE__ADMIN__TOKEN", "t")
    assert "0.0.0.0" == load_settings().settings.admin.host


def test_every_value_is_shown_with_its_source_and_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TURNPIKE__AUTH__PEPPER", "hunter2")
    monkeypatch.setenv("TURNPIKE__PAYMENT__DATABASE_URL", "postgresql+asyncpg://u:hunter2@db/pay")

    shown = {entry["key"]: entry for entry in effective(load_settings())}

    assert "***" == shown["auth.pepper"]["value"]
    assert "TURNPIKE__AUTH__PEPPER" == shown["auth.pepper"]["source"]
    assert "postgresql+asyncpg://u:***@db/pay" == shown["payment.database_url"]["value"]
    assert "hunter2" not in json.dumps(shown)


def test_example_says_what_holds_without_it() -> None:
    Path("example.yaml").write_text(example_yaml())

    assert Settings() == load_settings(Path("example.yaml")).settings


def test_schema_covers_every_section_and_the_catalogue() -> None:
    schema = file_schema()

    assert {*Settings.model_fields, "catalogue"} == set(schema["properties"])
    assert "CatalogueFile" in schema["$defs"]
    assert "Settings" not in schema["$defs"]
    json.dumps(schema)


def test_every_setting_says_what_it_is() -> None:
    bare = [
        f"{section}.{name}"
        for section, field in Settings.model_fields.items()
        if hasattr(field.annotation, "model_fields")
        for name, inner in field.annotation.model_fields.items()  # type: ignore[union-attr]
        if not inner.description
    ]

    assert [] == bare


def test_settings_do_not_change() -> None:
    settings = load_settings().settings

    with pytest.raises(ValueError, match="frozen"):
        settings.gateway = settings.gateway  # type: ignore[misc]
