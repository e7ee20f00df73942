"""A file or folder is whole: the old one or the new one."""

from pathlib import Path

import pytest

from model.atomic_write import atomic_folder, atomic_write, atomic_write_text


def write(path: Path, text: str, error: Exception | None = None) -> None:
    with atomic_write(path) as file:
        file.write_text(text)
        if error:
            raise error


def test_a_file_is_replaced_once_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "within" / "file.json"
    write(path, "old")
    with pytest.raises(RuntimeError):
        write(path, "ne", RuntimeError())
    assert path.read_text() == "old"
    write(path, "new")
    assert [one.read_text() for one in path.parent.iterdir()] == ["new"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_text_is_written_as_utf8(tmp_path: Path, durable: bool) -> None:
    for text in ("old", "用户 new\n"):
        atomic_write_text(tmp_path / "file.txt", text, durable=durable)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ["用户 new\n".encode()]


def write_folder(path: Path, name: str, error: Exception | None = None) -> None:
    with atomic_folder(path) as part:
        assert not path.exists()
        (part / name).write_text("a file")
        if error:
            raise error


def test_a_folder_appears_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "above" / "state-2"
    with pytest.raises(RuntimeError):
        write_folder(path, "one", RuntimeError())
    assert not path.exists()
    write_folder(path, "two")
    names = [entry.relative_to(tmp_path).as_posix() for entry in sorted(tmp_path.rglob("*"))]
    assert names == ["above", "above/state-2", "above/state-2/two"]
