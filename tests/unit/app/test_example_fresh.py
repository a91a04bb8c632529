"""The example file in the repository is what the models say."""

from app.embedded import CHECKOUT
from app.settings_report import example_yaml


def test_example_file_is_what_config_example_prints() -> None:
    kept = (CHECKOUT / "turnpike.example.yaml").read_text()

    assert example_yaml() == kept, "write it anew: turnpike config example > turnpike.example.yaml"
