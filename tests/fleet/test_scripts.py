"""The scripts of a device in the shells that devices have: the lock, the limits, what prune keeps."""

import hashlib
import os
import shutil
import subprocess
import time

import pytest
from support.fleet_cases import runs

from lstm_edge.fleet.scripts import script

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}
A, B, C, D = (letter * 64 for letter in "abcd")


@pytest.fixture(params=list(SHELLS))
def shell(request):
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    return command


def start(shell, text, root, *arguments):
    return subprocess.Popen(
        [*shell, "-c", text, "lstm-edge", "TOKEN", str(root), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process, timeout=30):
    out, err = process.communicate(timeout=timeout)
    return [line.removeprefix("TOKEN ") for line in out.splitlines() if line.startswith("TOKEN ")], out, err


def prelude(more):
    return script("step").replace('limited "$1" "$2"', more)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / 'it\'s a "folder" $HOME'
    (folder / "models").mkdir(parents=True)
    return folder


def test_a_step_has_the_status_and_output_of_its_command(shell, root):
    process = start(shell, script("step"), root, 20, "echo 'a b'; echo bad >&2; exit 7")
    _, out, err = said(process)
    assert (process.returncode, out, err) == (7, "a b\n", "bad\n")


def test_a_step_that_hangs_is_killed_with_all_that_it_started(shell, root, tmp_path):
    # Also a process that left its group and whose parent is gone.
    file = tmp_path / "pids"
    command = f'setsid sh -c \'echo $$ >>"{file}"; exec sleep 300\' & (sleep 300 & echo $! >>"{file}"); sleep 300'
    began = time.monotonic()
    process = start(shell, script("step"), root, 1, command)
    assert process.wait(timeout=30) == 124
    assert time.monotonic() - began < 15
    process.communicate()
    pids = [int(line) for line in file.read_text().split()]
    assert len(pids) == 2
    assert not any(map(runs, pids))


HOLD = "lock; say held; read -r _; unlock; say left"


def test_one_job_holds_the_lock(shell, root):
    first = start(shell, prelude(HOLD), root)
    assert first.stdout.readline() == "TOKEN held\n"
    second = start(shell, prelude("sleep() { :; }; " + HOLD), root)
    lines, _, _ = said(second)
    assert lines == [f"failed another deploy works on {root} (process {first.pid} of the device)"]
    assert second.returncode == 1
    assert said(first)[0] == ["left"]
    assert said(start(shell, prelude(HOLD), root))[0] == ["held", "left"]
    assert os.listdir(root / "locks") == []


@pytest.mark.parametrize("change", [lambda e: e, lambda e: e.replace(".", ".1", 1), lambda e: e + "x"])
def test_an_entry_whose_process_is_gone_is_stale(shell, root, change):
    # A process that was killed, another one with its number, and one of an earlier boot.
    first = start(shell, prelude(HOLD), root)
    first.stdout.readline()
    [entry] = os.listdir(root / "locks")
    changed = change(entry)
    if changed == entry:
        first.kill()
        first.wait()
    else:
        os.rename(root / "locks" / entry, root / "locks" / changed)
    assert said(start(shell, prelude(HOLD), root))[0] == ["held", "left"]
    assert os.listdir(root / "locks") == []
    first.kill()
    first.communicate()


def test_two_jobs_at_once_never_hold_the_lock_both(shell, root):
    text = 'lock; mkdir "$root/inside" || say both; sleep 0.05; rmdir "$root/inside"; unlock; say done'
    jobs = [start(shell, prelude(text), root) for _ in range(6)]
    lines = [line for job in jobs for line in said(job, 60)[0]]
    assert "both" not in lines
    assert "done" in lines
    assert all(line == "done" or line.startswith("failed another deploy") for line in lines)


def make_models(root, *digests):
    for age, digest in enumerate(digests):
        path = root / "models" / f"{digest}.onnx"
        path.write_text(digest)
        os.utime(path, (1e9 - age, 1e9 - age))


def left(root):
    return sorted(name[0] for name in os.listdir(root / "models") if name.endswith(".onnx"))


@pytest.mark.parametrize(
    ("keep", "links", "expected"),
    [
        (2, {}, "ab"),
        (1, {"current": C, "previous": D}, "cd"),
        (3, {"current": C, "previous": D}, "acd"),
        (1, {"trial": B, "current": A}, "ab"),
        (9, {}, "abcd"),
    ],
)
def test_prune_keeps_the_newest_and_what_a_link_names(shell, root, keep, links, expected):
    make_models(root, A, B, C, D)
    for name, digest in links.items():
        (root / name).symlink_to(f"models/{digest}.onnx")
    (root / "models" / f"{A}.onnx.part").write_text("")
    (root / "models" / f"{D}.onnx.sig").write_text("")
    (root / "models" / "mine.onnx").write_text("")
    (root / "models" / "a file.txt").write_text("")
    lines, _, err = said(start(shell, script("prune"), root, keep))
    assert err == ""
    assert left(root) == sorted([*expected, "m"])
    assert sorted(lines) == sorted([f"removed {d}" for d in (A, B, C, D) if d[0] not in expected] + ["end"])
    others = {f"{D}.onnx.sig"} if "d" in expected else set()
    assert {name for name in os.listdir(root / "models") if not name.endswith(".onnx")} == others | {"a file.txt"}


def agent(shell, root, *, reload="", health="", watch=0):
    return start(shell, script("agent"), root, reload, health, watch, 20, 5, 60, script("trial"))


def lines_until(process, word):
    lines = []
    while line := process.stdout.readline():
        if line.startswith("TOKEN "):
            lines.append(line.removeprefix("TOKEN ").strip())
            if lines[-1].split()[0] == word:
                return lines
    raise AssertionError((lines, process.stderr.read()))


def order(process, text):
    process.stdin.write(f"{text}\n")
    process.stdin.flush()


def links(root):
    """The first letter of what each link names, "none" for a trial of the first model, "" for no link."""
    found = [root / name for name in ("current", "previous", "trial")]
    return tuple(
        os.readlink(link).removeprefix("models/")[:4].replace("aaaa", "a").replace("bbbb", "b")
        if link.is_symlink()
        else ""
        for link in found
    )


def test_an_agent_swings_and_commits(shell, root):
    make_models(root, A, B)
    job = agent(shell, root, reload=f"cat '{root / 'current'}' >>'{root / 'log'}'".replace("it's", "it'\\''s"))
    assert lines_until(job, "ready") == ["current none", "previous none", "ready"]
    order(job, f"try models/{A}.onnx")
    assert lines_until(job, "watched") == ["swung", "reloaded", "watched"]
    assert links(root) == ("a", "", "none")
    order(job, "commit")
    assert lines_until(job, "committed") == ["committed"]
    order(job, "end")
    assert said(job)[0] == ["ended"]
    assert links(root) == ("a", "", "")
    second = agent(shell, root)
    lines_until(second, "ready")
    order(second, f"try models/{B}.onnx")
    lines_until(second, "watched")
    assert links(root) == ("b", "", "a")
    order(second, "commit")
    lines_until(second, "committed")
    assert links(root) == ("b", "a", "")
    said(second)
    assert (root / "log").read_text() == A
    assert os.listdir(root / "locks") == []


@pytest.mark.parametrize("end", ["input", "agent", "trial"])
def test_a_trial_that_is_not_confirmed_is_put_back(shell, root, end):
    make_models(root, A, B)
    (root / "current").symlink_to(f"models/{A}.onnx")
    job = agent(shell, root, reload=f"echo again >>/dev/null; touch '{root.parent}/reloaded'")
    lines_until(job, "ready")
    order(job, f"try models/{B}.onnx")
    lines_until(job, "watched")
    assert links(root) == ("b", "", "a")
    (root.parent / "reloaded").unlink()
    if end == "input":
        job.stdin.close()
    elif end == "agent":
        job.kill()
    else:
        [trial] = [int(e.split(".")[0]) for e in os.listdir(root / "locks") if not e.startswith(f"{job.pid}.")]
        os.kill(trial, 9)
        while runs(trial):
            time.sleep(0.01)
        order(job, "beat")
    assert lines_until(job, "returned")[-1] == "returned"
    assert links(root) == ("a", "", "")
    assert (root.parent / "reloaded").exists()
    job.stdin = None if end == "input" else job.stdin
    job.communicate(timeout=30)


def test_the_next_job_ends_a_trial_that_lost_both_of_its_processes(shell, root):
    # As after a power cut: the link of a trial is there, and nobody works on it.
    make_models(root, A, B)
    (root / "trial").symlink_to(f"models/{A}.onnx")
    (root / "current").symlink_to(f"models/{B}.onnx")
    job = agent(shell, root)
    assert lines_until(job, "ready") == ["recovered", f"current models/{A}.onnx", "previous none", "ready"]
    assert links(root) == ("a", "", "")
    said(job)


def test_silence_ends_a_deploy(shell, root):
    make_models(root, A, B)
    (root / "current").symlink_to(f"models/{A}.onnx")
    job = start(shell, script("agent"), root, "", "", 0, 20, 5, 2, script("trial"))
    lines_until(job, "ready")
    order(job, f"try models/{B}.onnx")
    lines_until(job, "watched")
    assert lines_until(job, "returned") == ["stopped the connection was lost", "returned"]
    assert links(root) == ("a", "", "")
    job.wait(timeout=30)
    job.communicate()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_current_that_is_not_a_link_to_a_file_is_refused(shell, root, what):
    if what == "file":
        (root / "current").write_text("mine")
    else:
        (root / "current").symlink_to(root / "models")
    lines, _, _ = said(agent(shell, root))
    assert lines[0].startswith("failed ")
    assert ("is not a symbolic link" if what == "file" else "names a folder") in lines[0].replace("exists and ", "")


@pytest.mark.parametrize(("sent", "word"), [(b"model", "finished"), (b"modeL", "failed"), (b"", "failed")])
def test_a_file_gets_its_name_only_with_its_digest(shell, root, sent, word):
    name, digest = f"{A}.onnx", hashlib.sha256(b"model").hexdigest()
    (root / "models" / name).write_bytes(b"earlier")
    (root / "models" / f"{name}.part").write_bytes(b"a part of an earlier deploy, which is longer")
    process = start(shell, script("receive"), root, name)
    process.stdin.write(sent.decode())
    assert said(process)[0] == ["received"]
    assert (root / "models" / name).read_bytes() == b"earlier"
    [line] = said(start(shell, script("finish"), root, name, digest))[0]
    assert line.split()[0] == word
    if word == "failed":
        assert line == f"failed the file arrived with SHA-256 {hashlib.sha256(sent).hexdigest()}, expected {digest}"
    assert (root / "models" / name).read_bytes() == (sent if word == "finished" else b"earlier")
    assert os.listdir(root / "models") == [name]
    expected = {digest: "present", A: "damaged"} if word == "finished" else {digest: "damaged"}
    for wanted, answer in expected.items():
        assert said(start(shell, script("examine"), root, name, wanted))[0] == [answer]
    assert said(start(shell, script("examine"), root, f"{B}.onnx", digest))[0] == ["absent"]
