"""The zoo of recipes: what a recipe may say, what a download may hold, and `zoo get` from a local package."""

import functools
import http.server
import json
import stat
import tarfile
import threading
import zipfile

import pytest
from support.onnx_files import lstm_model
from support.zoo_packages import MEMBER, npm_tarball, recipe_text, wheel, zipped
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app
from lstm_edge.zoo import parse_recipe, read_recipe, recipe, recipes
from lstm_edge.zoo.archive import read_members
from lstm_edge.zoo.download import fetch
from lstm_edge_runtime.errors import ArtifactError, BudgetError, DataError, InputError, IntegrityError, MissingToolError

MODEL = lstm_model(state=True)
WHEEL = wheel(MODEL)
TEXT = recipe_text(WHEEL, MODEL)
# Of the files that the recipe makes here; the recipes allow 2 %.
SIZES = (6789, 8808)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with pip's index replaced by a folder with the made wheel, and a folder of recipes."""
    index = tmp_path / "index"
    index.mkdir()
    (index / "made_vad-1.2.3-py3-none-any.whl").write_bytes(WHEEL)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "recipes").mkdir()
    monkeypatch.setattr(recipe, "FOLDER", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(folder, text, name="made"):
    (folder / "recipes" / f"{name}.toml").write_text(text)


def zoo(*arguments):
    return CliRunner().invoke(app, ["zoo", *arguments], prog_name="lstm-edge")


# Recipes


def test_the_recipes_are_valid_and_have_four_models_beside_the_two_documented_ones():
    found = recipes()
    assert {"silero-vad", "gtcrn"} <= {one.name for one in found}
    assert len({one.source.package for one in found}) >= 6
    for one in found:
        assert one.source.member_sha256 != one.source.sha256
        assert one.expected.int8_bytes < one.expected.float32_bytes
        assert one.expected.least_signal_to_noise_db >= 15


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('licence = "MIT"\n', "", "recipe made: lacks the key 'licence'"),
        ('licence = "MIT"\n', 'license = "MIT"\n', "recipe made: has an unknown key 'license'"),
        ('title = "made detector"', "title = 3", "title must be a text that is not empty, got 3"),
        ('scheme = "int8"', 'scheme = "int8"\nrun = "setup.py"', "[quantize] has an unknown key 'run'"),
        ('scheme = "int8"', "scheme = [", "recipe made: not TOML"),
        ("float32_bytes = 1", "float32_bytes = true", "float32_bytes must be a positive integer, got True"),
        ('registry = "pypi"', 'registry = "conda"', "registry must be one of pypi, npm, url"),
        ('registry = "pypi"', 'registry = "url"', "registry 'url' needs url and not the other"),
        ('package = "made-vad"', 'package = "--index-url=x"', "[source] package must match"),
        ('package = "made-vad"', 'package = "../made"', "[source] package must match"),
        ('version = "1.2.3"', 'version = "1.2.3 --pre"', "[source] version must match"),
        ('file = "made_vad-', 'file = "../made_vad-', "[source] file must match"),
        ("py3-none-any.whl", "tar.gz", "file must end in -none-any.whl"),
        ("py3-none-any.whl", "cp311-cp311-linux_x86_64.whl", "file must end in -none-any.whl"),
        ('licence_members = ["', 'licence_members = [3, "', "licence_members must be a list of texts"),
    ],
)
def test_a_recipe_is_refused_with_the_key(old, new, sentence):
    assert old in TEXT
    with pytest.raises(DataError) as caught:
        parse_recipe("made", TEXT.replace(old, new))
    assert sentence in str(caught.value)


def test_a_digest_is_64_hexadecimal_digits():
    for digest in ("0" * 63, "0" * 63 + "G"):
        with pytest.raises(DataError, match=r"\[source\] sha256 must match"):
            parse_recipe("made", recipe_text(WHEEL, MODEL, sha256=digest))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"no recipe 'silero', expected one of .*silero-vad"):
        read_recipe("silero")
    result = zoo("get", "../gtcrn")
    assert (result.exit_code, "no recipe '../gtcrn'" in result.stderr) == (2, True)


# Archives


def links():
    entry = tarfile.TarInfo("package/model.onnx")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry


@pytest.mark.parametrize("path", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil", "C:/evil"])
@pytest.mark.parametrize("kind", ["whl", "tgz"])
def test_an_archive_with_a_path_that_leads_out_is_refused(kind, path):
    entries = [(MEMBER, b"model"), (path, b"evil")]
    data = zipped(entries) if kind == "whl" else npm_tarball(entries)
    with pytest.raises(ArtifactError, match="leads out of the archive, so nothing of it is used"):
        read_members(data, f"made.{kind}", [MEMBER], most_bytes=9)


def test_only_a_plain_file_of_the_expected_size_is_read():
    link = zipfile.ZipInfo(MEMBER)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    cases = [
        (zipped([(link, b"/etc/passwd")]), "made.whl", MEMBER, "is a link or a folder"),
        (npm_tarball([(links(), b"")]), "made.tgz", "package/model.onnx", "is a link or a folder"),
        (zipped([(MEMBER, b"0123456789")]), "made.whl", MEMBER, "has 10 bytes, expected at most 9"),
        (zipped([("other", b"")]), "made.whl", MEMBER, f"has no entry '{MEMBER}'"),
        (b"not an archive", "made.whl", MEMBER, "not a readable archive"),
        (b"not an archive", "made.tgz", MEMBER, "not a readable archive"),
        (npm_tarball([("a", b"b" * 5000)])[:60], "made.tgz", "a", "not a readable archive"),
    ]
    for data, file, wanted, sentence in cases:
        with pytest.raises(ArtifactError, match=sentence):
            read_members(data, file, [wanted], most_bytes=9)
    assert read_members(zipped([(MEMBER, b"model")]), "made.whl", [MEMBER], most_bytes=9) == {MEMBER: b"model"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_path_that_is_there_twice_is_refused():
    twice = [(MEMBER, b"model"), (MEMBER, b"other")]
    for data, file in ((zipped(twice), "made.whl"), (npm_tarball(twice), "made.tgz")):
        with pytest.raises(ArtifactError, match="is there twice"):
            read_members(data, file, [MEMBER], most_bytes=9)


# Downloads


def test_npm_is_called_by_name_and_its_archive_is_checked(tmp_path, monkeypatch):
    data = npm_tarball([("package/model.onnx", MODEL)])
    (tmp_path / "archive").write_bytes(data)
    tool = tmp_path / "npm"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\ncp {tmp_path}/archive made-vad-1.2.3.tgz\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    options = {"registry": "npm", "package": "@made/vad", "file": "made-vad-1.2.3.tgz"}
    source = parse_recipe("made", recipe_text(data, MODEL, **options)).source
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    lines = []
    assert fetch(source, scratch, lines.append) == data
    assert lines[0] == "downloading @made/vad 1.2.3 from npm"
    called = (tmp_path / "called").read_text().split()
    assert called[0] == "pack"
    assert called[-1] == "@made/vad@1.2.3"
    assert "--ignore-scripts" in called
    monkeypatch.setenv("PATH", str(scratch))
    with pytest.raises(MissingToolError, match="npm is needed to fetch"):
        fetch(source, scratch, lines.append)


def test_a_url_is_fetched_and_checked(tmp_path):
    (tmp_path / "made.zip").write_bytes(WHEEL)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            options = {"registry": "url", "url": f"{address}/made.zip", "file": "made.zip"}
            text = recipe_text(WHEEL, MODEL, **options).replace('package = "made-vad"\n', "")
            assert fetch(parse_recipe("made", text).source, tmp_path, print) == WHEEL
            with pytest.raises(ArtifactError, match=r"the download failed .*404"):
                fetch(parse_recipe("made", text.replace("/made.zip", "/none.zip")).source, tmp_path, print)
        finally:
            server.shutdown()
            thread.join()


# `zoo list` and `zoo get`


def test_list_prints_each_recipe():
    result = zoo("list")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    values = json.loads(zoo("list", "--json").stdout)
    assert [value["name"] for value in values] == [one.name for one in recipes()]
    for value in values:
        assert value["name"] in result.stdout
        assert set(value["source"]) >= {"package", "version", "sha256", "member_sha256"}


@pytest.mark.slow
def test_get_makes_both_files_of_a_local_package(folder):
    put(folder, recipe_text(WHEEL, MODEL, sizes=SIZES))
    result = zoo("get", "made")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (folder / "made").iterdir()) == [
        "made.LICENSE.txt", "made.int8.onnx", "made.onnx"
    ]  # fmt: skip
    assert "lstm-edge bench made/made.int8.onnx" in result.stdout
    assert "downloading made-vad 1.2.3 from PyPI" in result.stderr
    assert (folder / "made" / "made.LICENSE.txt").read_text() == "Made licence"
    for name in ("made.onnx", "made.int8.onnx"):
        lstm_edge.check(folder / "made" / name).check()
    assert lstm_edge.Session(folder / "made" / "made.int8.onnx").card.quantization is not None
    values = json.loads(zoo("get", "made", "-o", "deep/models", "--json").stdout)
    assert values["float32_path"] == "deep/models/made.onnx"
    assert values["quantized_bytes"] == (folder / "deep/models/made.int8.onnx").stat().st_size
    assert 20 <= values["signal_to_noise_db"] < 100


@pytest.mark.slow
def test_a_wrong_digest_stops_before_anything_is_used(folder):
    for key, what in (("sha256", "made_vad-1.2.3-py3-none-any.whl"), ("member_sha256", MEMBER)):
        put(folder, recipe_text(WHEEL, MODEL, sizes=SIZES, **{key: "0" * 64}))
        result = zoo("get", "made")
        assert result.exit_code == 1
        assert f"error: {what}: SHA-256 is " in result.stderr
        assert "recurrent layer" not in result.stderr  # adopt has not begun
        assert list((folder / "made").iterdir()) == []
    with pytest.raises(IntegrityError, match="nothing of it was used"):
        lstm_edge.zoo_get("made")


@pytest.mark.slow
def test_another_size_or_a_larger_error_writes_nothing(folder):
    cases = [
        ({"sizes": (SIZES[0] * 11 // 10, SIZES[1])}, "the float32 file has .* the recipe expects .* within 2%"),
        ({"sizes": (SIZES[0], SIZES[1] * 9 // 10)}, "the int8 file has"),
        ({"sizes": SIZES, "least_db": 99.0}, "expects at least 99 dB; nothing was written"),
    ]
    for options, sentence in cases:
        put(folder, recipe_text(WHEEL, MODEL, **options))
        with pytest.raises(BudgetError, match=sentence):
            lstm_edge.zoo_get("made", output=folder / "out")
        assert list((folder / "out").iterdir()) == []


@pytest.mark.slow
def test_a_failed_download_has_the_tools_own_sentence(folder):
    put(folder, recipe_text(WHEEL, MODEL, version="9.9.9"))
    result = zoo("get", "made")
    assert result.exit_code == 2
    assert "made-vad 9.9.9 from PyPI: pip could not download it (ERROR: No matching distribution" in result.stderr
