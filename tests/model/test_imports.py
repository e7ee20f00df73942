"""What a user of profiles, tokenizers, probe or runtime alone does not pay for."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["model", "model.data.config", "model.data.profiles", "model.data.text", "model.training.probe"]
)
def test_it_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import model

    with pytest.raises(AttributeError, match="unheard_of"):
        model.unheard_of  # noqa: B018
