"""Read a YAML file strictly: no repeated keys and no invalid dates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

from model.errors import InstructUEError


def read_yaml(path: Path, name: str, fix: str, error: type[InstructUEError]) -> Any:
    """Return the content of a file.

    Parameters
    ----------
    name
        The kind of the file in messages, such as `deployment file`.
    fix
        What to do where the file does not exist.
    error
        The class to raise where the file does not exist, is no text, is no YAML, or has a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Strict)
    except OSError as unread:
        raise error(f"{name} {path}: {unread.strerror}; {fix}") from None
    except UnicodeDecodeError as undecoded:
        line = undecoded.object[: undecoded.start].count(b"\n") + 1
        raise error(
            f"{name} {path} is not UTF-8: line {line} has the byte {undecoded.object[undecoded.start]:#04x}; "
            "save it as UTF-8"
        ) from None
    except RecursionError:
        raise error(f"{name} {path} is not YAML: it is nested too deeply; write it flatter") from None
    except (yaml.YAMLError, ValueError) as unparsed:
        raise error(f"{name} {path} is not YAML: {unparsed}") from None


class _Strict(yaml.SafeLoader):
    """A safe loader that raises ConstructorError for repeated keys and for invalid dates."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [
            key
            for key, _ in node.value
            if isinstance(key, ScalarNode) and node.start_mark.index <= key.start_mark.index < node.end_mark.index
        ]  # the other keys are merged
        for number, key in enumerate(own):
            if key.value in [earlier.value for earlier in own[:number]]:
                raise ConstructorError(
                    None, None, f"the key {key.value!r} is written twice; remove one", key.start_mark
                )
        return super().construct_mapping(node, deep)

    def construct_yaml_timestamp(self, node: ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError as error:
            raise ConstructorError(None, None, f"{node.value!r} is no date ({error})", node.start_mark) from None


_Strict.add_constructor("tag:yaml.org,2002:timestamp", _Strict.construct_yaml_timestamp)
