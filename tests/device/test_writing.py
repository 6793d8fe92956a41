"""Where a result lands: links, permissions, long names, and what a killed writer leaves behind."""

import contextlib
import fcntl
import os
import signal
import stat
import tempfile
import threading
import time

import pytest

from lstm_edge_runtime import writing
from lstm_edge_runtime.errors import OutputError
from lstm_edge_runtime.writing import beside, check_target, write_atomically


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def leftovers(folder):
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "model.onnx").write_bytes(b"old")
    first, second = tmp_path / "current.onnx", tmp_path / "alias.onnx"
    first.symlink_to("v1/model.onnx")
    second.symlink_to(first)
    write_atomically(second, b"new")
    assert (tmp_path / "v1" / "model.onnx").read_bytes() == b"new"
    assert os.readlink(first) == "v1/model.onnx"
    assert second.is_symlink()
    # The temporary file lay in the folder of the file, not of the link: a rename works within one file system.
    assert os.listdir(tmp_path / "v1") == ["model.onnx"]


def test_a_dangling_link_is_followed_and_a_loop_is_refused(tmp_path):
    (tmp_path / "v2").mkdir()
    link, lost, loop = tmp_path / "link.onnx", tmp_path / "lost.onnx", tmp_path / "loop.onnx"
    link.symlink_to("v2/new.onnx")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "v2" / "new.onnx").read_bytes() == b"new"
    lost.symlink_to("none/new.onnx")
    loop.symlink_to("other.onnx")
    (tmp_path / "other.onnx").symlink_to("loop.onnx")
    for path, sentence in (
        (lost, r"lost\.onnx \(a link to .*none/new\.onnx\): the folder .*none does not exist; make it first$"),
        (loop, r"loop\.onnx.*: this is a symbolic link in a loop; give the path of a file$"),
        (loop / "x.onnx", "does not exist; make it first$"),
    ):
        for refused in (check_target, lambda path: write_atomically(path, b"x")):
            with pytest.raises(OutputError, match=sentence):
                refused(path)


def test_a_link_to_a_device_or_a_folder_is_refused(tmp_path):
    for where, sentence in (("/dev/null", "this is a device or a pipe"), (tmp_path, "this is a directory")):
        link = tmp_path / "link.onnx"
        link.symlink_to(where)
        with pytest.raises(OutputError, match=rf"link\.onnx \(a link to .*\): {sentence}"):
            write_atomically(link, b"x")
        link.unlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_rewritten_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "p.onnx"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert (path.read_bytes(), mode_of(path)) == (b"new", mode)


def test_a_new_file_gets_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "p.onnx", b"new")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "p.onnx") == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_keeps_the_owner_of_a_file(tmp_path):
    path = tmp_path / "p.onnx"
    path.write_bytes(b"old")
    os.chown(path, 12345, 54321)
    path.chmod(0o2750)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (12345, 54321, 0o2750)


def test_rights_that_came_from_an_owner_who_cannot_be_kept_are_not_given_to_others(tmp_path, monkeypatch):
    path = tmp_path / "p.onnx"
    path.write_bytes(b"old")
    path.chmod(0o6775)
    monkeypatch.setattr(os, "stat", pretend_another_owner(os.stat, path))

    def fchown(descriptor, owner, group):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", fchown)
    write_atomically(path, b"new")
    monkeypatch.undo()
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o705)


def pretend_another_owner(real, path):
    def replaced(asked, *arguments, **options):
        found = real(asked, *arguments, **options)
        if str(asked) != str(path):
            return found
        values = list(found)
        values[stat.ST_UID] += 1
        values[stat.ST_GID] += 1
        return os.stat_result(values)

    return replaced


def test_a_further_hard_link_keeps_the_old_contents(tmp_path):
    path, other = tmp_path / "p.onnx", tmp_path / "other.onnx"
    path.write_bytes(b"old")
    other.hardlink_to(path)
    write_atomically(path, b"new")
    assert (path.read_bytes(), other.read_bytes()) == (b"new", b"old")


@pytest.mark.parametrize("name", ["漢" * 83 + ".onnx", "x" * 250 + ".onnx"])
def test_every_legal_name_can_be_written(tmp_path, name):
    assert len(os.fsencode(name)) in (254, 255)
    write_atomically(tmp_path / name, b"new")
    assert os.listdir(tmp_path) == [name]


def test_what_is_no_name_of_a_file_is_refused_in_one_sentence(tmp_path):
    for name, sentence in (
        ("x" * 251 + ".onnx", "the name has 256 bytes, its file system allows 255"),
        ("a\0b.onnx", "cannot be the name of a file"),
        ("a\ud800b.onnx", "cannot be the name of a file"),
    ):
        for refused in (check_target, lambda path: write_atomically(path, b"x")):
            with pytest.raises(OutputError, match=sentence):
                refused(os.path.join(tmp_path, name))


def test_an_ending_says_what_is_in_the_file(tmp_path):
    assert check_target(tmp_path / "m.ONNX", ".onnx", ".ort") == tmp_path / "m.ONNX"
    with pytest.raises(OutputError, match=r"o\.txt: the name must end in \.onnx or \.ort$"):
        check_target(tmp_path / "o.txt", ".onnx", ".ort")


def test_the_file_of_another_file_has_a_legal_name_too(tmp_path):
    assert beside(tmp_path / "m.onnx", ".search") == tmp_path / "m.onnx.search"
    long, longer = (beside(tmp_path / ("漢" * 83 + end + ".onnx"), ".selection-study.sqlite3") for end in ("", "a"))
    assert long != longer
    for path in (long, longer):
        assert path.name.endswith(".selection-study.sqlite3")
        (tmp_path / (path.name + "-journal")).touch()


def killed_writer(folder):
    """A process that was killed when its bytes were written and its file had no name yet."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            write_atomically(folder / "model.onnx", b"half")
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    killed_writer(tmp_path)
    assert len(leftovers(tmp_path)) == 1
    assert not (tmp_path / "model.onnx").exists()
    write_atomically(tmp_path / "other.onnx", b"new")
    assert os.listdir(tmp_path) == ["other.onnx"]


def test_a_file_that_is_being_written_is_left_alone(tmp_path):
    for writer in range(2):
        with writing.locked_file(tmp_path) as (descriptor, name):
            os.write(descriptor, b"not yet whole")
            write_atomically(tmp_path / "other.onnx", b"new")
            assert os.path.exists(name), writer
        assert not os.path.exists(name)


def test_what_is_not_ours_is_left_alone(tmp_path):
    target = tmp_path / "elsewhere"
    target.write_bytes(b"mine")
    names = [".other.tmp", ".lstm-edge-notes", ".lstm-edge-link.tmp", ".lstm-edge-pipe.tmp", ".lstm-edge-folder.tmp"]
    (tmp_path / names[0]).touch()
    (tmp_path / names[1]).touch()
    (tmp_path / names[2]).symlink_to(target)
    os.mkfifo(tmp_path / names[3])
    (tmp_path / names[4]).mkdir()
    write_atomically(tmp_path / "model.onnx", b"new")
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "elsewhere", "model.onnx"])


def test_a_file_that_was_taken_away_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    real, made = tempfile.mkstemp, []

    def mkstemp(**options):
        descriptor, name = real(**options)
        made.append(name)
        if len(made) == 1:
            os.unlink(name)  # another process's writer saw it without a lock
        return descriptor, name

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    write_atomically(tmp_path / "model.onnx", b"new")
    assert len(made) == 2
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_file_system_without_locks_can_be_written(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with writing.locked_file(tmp_path) as (_, name):
        write_atomically(tmp_path / "model.onnx", b"new")
        assert os.path.exists(name)
    assert (tmp_path / "model.onnx").read_bytes() == b"new"


@pytest.mark.slow
def test_writers_at_the_same_time_never_take_each_others_files_away(tmp_path):
    path, end, problems = tmp_path / "model.onnx", time.monotonic() + 1.5, []

    def write(number):
        data = bytes([number]) * 50_000
        while time.monotonic() < end:
            try:
                write_atomically(path, data)
            except OutputError as error:
                problems.append(str(error))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            data = path.read_bytes()
            assert data == data[:1] * 50_000
    assert not problems
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_the_folder_is_flushed_after_the_file_has_its_name(tmp_path, monkeypatch):
    seen, real = [], os.fsync
    path = tmp_path / "model.onnx"

    def fsync(descriptor):
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"new")
    assert seen == [(False, False), (True, True)]
