"""`--workers` and `--storage`: the same bytes as one process, whatever ends in the middle."""

import os
import signal

import pytest
from support.auto_cases import SCHEMES, command, no_timer, request
from support.postgresql import wait_for
from support.worker_cases import children, comparable, ended, finish, made, start, write_files, write_metric

from lstm_edge.precision_search import quantize_to_budget
from lstm_edge.precision_search.process import WorkerProcess
from lstm_edge_runtime.errors import WorkerError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("workers"))


@pytest.fixture(scope="module", autouse=True)
def few_schemes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstm_edge.precision_search.space.SCHEMES", SCHEMES)
        for module in ("smallest", "expected"):
            patch.setattr(f"lstm_edge.precision_search.{module}.UNIFORM", ("float16", *SCHEMES))
        yield


def search(files, folder, **more):
    """Search; returns the report, the bytes of the result and the lines of progress."""
    lines, asked = [], request(files, folder, **more)
    report = quantize_to_budget(asked, timer=no_timer, progress=lines.append)
    assert [name for name in os.listdir(folder) if name.startswith("out.onnx")] == ["out.onnx"]
    return comparable(report), (folder / "out.onnx").read_bytes(), lines


@pytest.fixture(scope="module")
def alone(files, few_schemes, tmp_path_factory):
    return search(files, tmp_path_factory.mktemp("alone"))


def killing(monkeypatch, is_fatal):
    """Kill a worker when it gets a task of which ``is_fatal`` says so; returns the tasks that all workers got."""
    begin, begun = WorkerProcess.begin, []

    def begin_and_die(self, task, roundings):
        begin(self, task, roundings)
        begun.append(task)
        if is_fatal(begun):
            os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(WorkerProcess, "begin", begin_and_die)
    return begun


def test_two_workers_one_of_which_is_killed_give_the_same_bytes_and_it_costs_one_evaluation(
    files, alone, tmp_path, monkeypatch
):
    begun = killing(monkeypatch, lambda begun: len(begun) == 6)
    report, written, lines = search(files, tmp_path, workers=2)
    assert written == alone[1]
    assert report == alone[0]
    [told] = [line for line in lines if line.startswith("worker ")]
    assert "ended (killed by SIGKILL) while it evaluated " in told
    assert f"while it evaluated {begun[5]}; that evaluation is made again" in told
    # A file that was too large to be evaluated may have to be, under a higher limit: that is another task.
    tasks = [(task.key, task.below) for task in begun]
    assert tasks.count(tasks[5]) == 2
    assert len(tasks) == len(set(tasks)) + 1, "nothing else was made twice"


@pytest.mark.long
@pytest.mark.parametrize(("workers", "storage"), [(2, False), (3, False), (1, True)])
def test_any_number_of_workers_gives_the_same_bytes(files, alone, tmp_path, workers, storage):
    where = f"sqlite:///{tmp_path / 'evaluations.sqlite3'}" if storage else None
    report, written, _ = search(files, tmp_path, workers=workers, storage=where)
    assert written == alone[1]
    assert report == alone[0]


@pytest.mark.long
def test_a_candidate_that_ends_two_workers_is_an_error_that_names_it(files, tmp_path, monkeypatch):
    began = killing(monkeypatch, lambda begun: begun[-1].parts == {"lstm.R": "int4:32"})
    with pytest.raises(WorkerError) as caught:
        search(files, tmp_path, workers=2)
    assert str(caught.value).startswith(
        "the evaluation of lstm.R=int4:32 on the tuning data ended 2 worker processes (the last: killed by SIGKILL)"
    )
    assert sum(task.parts == {"lstm.R": "int4:32"} for task in began) == 2
    assert not (tmp_path / "out.onnx").exists()
    assert ended(children(os.getpid()))


def test_workers_that_cannot_start_are_one_sentence(files, tmp_path, monkeypatch):
    monkeypatch.setattr("lstm_edge.precision_search.process.CODE", "raise SystemExit(7)")
    with pytest.raises(WorkerError, match=r"worker processes end before they are ready \(exit code 7\)"):
        search(files, tmp_path, workers=2)


def test_what_cannot_be_shared_is_refused_before_it_starts(files, tmp_path):
    model, data = files
    plain = [model, "-o", tmp_path / "out.onnx"]
    full = [*plain, "--scheme", "auto", "--data", data, "--metric", "cross-entropy", "--max-drop", "8%"]
    for arguments, sentence in (
        ([*plain, "--workers", 2], "--workers requires --scheme auto; leave it out"),
        ([*plain, "--storage", "sqlite:///x"], "--storage requires --scheme auto; leave it out"),
        ([*full, "--workers", 1000], "workers is 1000, expected 1 to 256"),
        ([*full, "--workers", 2, "--prefer", "latency"], "--workers is for --prefer size: step times are those of"),
        ([*full, "--storage", "sqlite:///x", "--prefer", "latency"], "--storage is for --prefer size"),
        ([*full, "--storage", "mysql://a:s3cr3t@b/c"], "storage: mysql is not supported, expected sqlite or postgres"),
        (
            [*full, "--storage", "postgresql://me:s3cr3t@127.0.0.1:1/none"],
            "storage postgresql://me:***@127.0.0.1:1/none: cannot be used (connection failed",
        ),
    ):
        result = command(*arguments, exit_code=2)
        assert sentence in " ".join(result.stderr.split()), arguments
        assert "s3cr3t" not in result.output
    assert os.listdir(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_no_worker_outlives_its_search(files, tmp_path, number, code):
    """Ctrl-C goes to the whole group, as from a terminal; the other signals to the search only."""
    write_metric(tmp_path)
    more = {"folder": tmp_path, "metric": "watched:loss:less", "STOPS": "4"}
    process = start(files, tmp_path / "out.onnx", "--workers", 2, **more)
    try:
        wait_for(lambda: (tmp_path / "stopped").exists() or process.poll() is not None)
        workers = children(process.pid)
        assert len(workers) == 2
        assert not ended(workers)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        errors = finish(process, code)
        wait_for(lambda: ended(workers))
    finally:
        process.kill()
    if number == signal.SIGINT:
        assert "error: interrupted: " in errors
        assert "out.onnx.search keeps the measurements; continue with --resume" in errors


@pytest.mark.long
def test_two_processes_share_a_file_and_other_data_of_the_same_name_share_nothing(files, alone, tmp_path):
    """Both have the answer of one process; together they make each evaluation once."""
    model, data = files
    copy = tmp_path / "data.npz"
    copy.write_bytes(data.read_bytes())
    storage = ["--storage", f"sqlite:///{tmp_path / 'evaluations.sqlite3'}"]
    outputs = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    both = [start((model, copy), output, *storage) for output in outputs]
    counts = [made(finish(process)) for process in both]
    # The name of the data is in the card, so this is not the file of the search in another folder.
    first, second = (output.read_bytes() for output in outputs)
    assert first == second
    assert all(mine > 0 for mine, _ in counts)
    assert "which has 0 of this search" not in finish(start((model, copy), tmp_path / "three.onnx", *storage))
    assert (tmp_path / "three.onnx").read_bytes() == first
    write_data_again(copy, model)
    errors = finish(start((model, copy), tmp_path / "four.onnx", *storage))
    assert "which has 0 of this search" in errors
    assert made(errors)[1] == 0


def write_data_again(path, model):
    from support.budget_models import write_data

    write_data(path, model, seed=2)
