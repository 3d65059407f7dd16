import stat

import pytest

from silo.files import file_digest, new_file, new_folder


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    with new_file(path) as stream:
        stream.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), new_file(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_whole_and_is_never_written_over(tmp_path):
    path = tmp_path / "folder"
    with new_folder(path) as temporary:
        (temporary / "file").write_text("new")
        assert not path.exists()
    assert (path / "file").read_text() == "new"
    with pytest.raises(FileExistsError), new_folder(path):
        pass


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_is_published_can_be_read_as_any_file_of_its_owner(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    with new_file(tmp_path / "file") as stream:
        stream.write(b"x")
    with new_folder(tmp_path / "folder") as temporary:
        (temporary / "inner").write_text("x")
        (temporary / "inner").chmod(0o600)
    expected = stat.S_IMODE(plain.stat().st_mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected
    assert stat.S_IMODE((tmp_path / "folder" / "inner").stat().st_mode) == expected


def test_a_digest_is_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file").startswith("ba7816bf8f01cfea")
