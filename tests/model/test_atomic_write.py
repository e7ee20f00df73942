"""A file is there whole: the old one or the new one."""

from pathlib import Path

import pytest

from model.atomic_write import atomic_write


def write(path: Path, text: str, error: Exception | None = None) -> None:
    with atomic_write(path) as file:
        file.write_text(text)
        if error:
            raise error


def test_a_file_is_replaced_once_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made" / "by it" / "file.json"
    write(path, "old")
    with pytest.raises(RuntimeError):
        write(path, "ne", RuntimeError())
    assert path.read_text() == "old"
    write(path, "new")
    assert [one.read_text() for one in path.parent.iterdir()] == ["new"]
