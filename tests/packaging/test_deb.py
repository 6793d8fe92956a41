"""Debian packages of made-up files: fields, contents, modes, and the same bytes each time."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.scripts import load_script

ROOT = Path(__file__).parents[2]
DEB, TEXTS, ELF = load_script("deb"), load_script("deb_texts"), load_script("elf")
EPOCH = 1_700_000_000
VERSION = TEXTS.project()["version"]
LIBRARY = "usr/lib/x86_64-linux-gnu/liblstm_edge.so.1"

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")


def program_of_libc() -> Path:
    """A program that needs the C library only."""
    path = shutil.which("true")
    if path is None or not set(ELF.needed_libraries(Path(path).read_bytes())) <= DEB.LIBC:
        pytest.skip("`true` needs more than the C library here")
    return Path(path)


def installed(folder, name, age):
    """A root as CMake's install makes it for a package, with another program in place of ours, of some age."""
    root = folder / "root"
    where = {"liblstm-edge1": LIBRARY, "lstm-edge-device": "usr/bin/lstm-edge-device"}
    path = root / where.get(name, "usr/include/lstm_edge.h")
    path.parent.mkdir(parents=True)
    if name in where:
        shutil.copy(program_of_libc(), path)
    else:
        path.write_text("int lstm_edge_version;\n")
    os.utime(path, (age, age))  # CMake keeps the times of what it installs
    if name == "liblstm-edge1":
        path.rename(path.with_name(f"liblstm_edge.so.{VERSION}"))
        path.symlink_to(f"liblstm_edge.so.{VERSION}")
        (root / "usr/share/doc/lstm_edge").mkdir(parents=True)
        (root / "usr/share/doc/lstm_edge/LICENSE.zlib").touch()
    return root


def packed(folder, name, age=1000):
    root = installed(folder, name, age)
    DEB.fill(name, root, "amd64", EPOCH)
    DEB.pack(root, folder / "a.deb", EPOCH)
    return folder / "a.deb"


def fields_of(package):
    text = subprocess.run(["dpkg-deb", "-f", package], check=True, capture_output=True, text=True).stdout
    return dict(re.findall(r"^(\S+): (.*)$", text, re.MULTILINE))


def listed(package):
    """Each file's mode and owner, by its name."""
    text = subprocess.run(["dpkg-deb", "-c", package], check=True, capture_output=True, text=True).stdout
    rows = (re.match(r"(\S+) (\S+) +\d+ \S+ \S+ \./(.*?)(?: -> .*)?$", line).groups() for line in text.splitlines())
    return {name: (mode, owner) for mode, owner, name in rows}


@needs_dpkg
@pytest.mark.parametrize("name", TEXTS.PACKAGES)
def test_the_bytes_depend_on_neither_the_day_nor_the_umask(name, tmp_path):
    packages = []
    for number, umask in enumerate((0o022, 0o077)):
        folder = tmp_path / str(number)
        folder.mkdir()
        before = os.umask(umask)
        try:
            packages.append(packed(folder, name, age=1000 + number))
        finally:
            os.umask(before)
    first, second = (path.read_bytes() for path in packages)
    assert first == second
    # The archive's own time, which could agree by chance: the name of its first member has 16 bytes, its time 12.
    assert int(first[8 + 16 : 8 + 28]) == EPOCH


@needs_dpkg
@pytest.mark.parametrize("name", TEXTS.PACKAGES)
def test_what_a_package_says(name, tmp_path):
    package = packed(tmp_path, name)
    fields = fields_of(package)
    project = TEXTS.project()
    person = project["maintainers"][0]
    assert (fields["Package"], fields["Version"], fields["Architecture"]) == (name, VERSION, "amd64")
    assert fields["Maintainer"] == f"{person['name']} <{person['email']}>"
    newest = ELF.needed_glibc(program_of_libc().read_bytes())
    libc, ours = f"libc6 (>= {newest[0]}.{newest[1]})", f"liblstm-edge1 (= {VERSION})"
    expected = {"liblstm-edge1": libc, "liblstm-edge-dev": ours, "lstm-edge-device": f"{libc}, {ours}"}
    assert fields["Depends"] == expected[name]
    assert ("Multi-Arch" in fields) == name.startswith("lib")
    files = listed(package)
    assert {owner for _, owner in files.values()} == {"root/root"}
    executable = {path for path, (mode, _) in files.items() if mode.startswith("-rwx")}
    assert executable == ({"usr/bin/lstm-edge-device"} if name == "lstm-edge-device" else set())
    documents = {path for path in files if path.startswith("usr/share/doc/") and not path.endswith("/")}
    assert documents == {f"usr/share/doc/{name}/copyright", f"usr/share/doc/{name}/changelog.gz"}


@needs_dpkg
def test_the_library_tells_the_linker_and_other_packages(tmp_path):
    package = packed(tmp_path, "liblstm-edge1")
    subprocess.run(["dpkg-deb", "-e", package, tmp_path / "control"], check=True)
    subprocess.run(["dpkg-deb", "-x", package, tmp_path / "files"], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "control").iterdir()}
    assert set(made) == {"control", "md5sums", "shlibs", "triggers"}
    assert made["shlibs"] == f"liblstm_edge 1 liblstm-edge1 (>= {VERSION})\n"
    assert made["triggers"] == "activate-noawait ldconfig\n"
    sums = dict(reversed(line.split("  ")) for line in made["md5sums"].splitlines())
    files = [path for path in (tmp_path / "files").rglob("*") if path.is_file() and not path.is_symlink()]
    assert sums == {
        str(path.relative_to(tmp_path / "files")): hashlib.md5(path.read_bytes()).hexdigest() for path in files
    }
    assert (tmp_path / "files" / LIBRARY).is_symlink()


def test_a_library_of_an_unknown_package_is_refused(tmp_path):
    program = tmp_path / "a"
    data = program_of_libc().read_bytes()
    program.write_bytes(data.replace(b"libc.so.6", b"libd.so.6"))
    with pytest.raises(SystemExit, match=r"error: .*/a: needs libd\.so\.6, which is in no package that is known here"):
        DEB.dependencies("lstm-edge-device", [program])


def test_the_time_is_given_or_that_of_the_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "123")
    assert DEB.time_of_sources() == 123
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    monkeypatch.setattr(DEB, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(SystemExit, match="this is no git checkout, set SOURCE_DATE_EPOCH"):
        DEB.time_of_sources()


def test_the_copyright_file_has_the_licence_of_zlib():
    text = TEXTS.copyright_text(EPOCH)
    licence = (ROOT / "runtime" / "c" / "third_party" / "zlib" / "LICENSE").read_text()
    terms = licence[licence.index("This software is provided") : licence.index("  Jean-loup Gailly        ")]
    assert re.sub(r"\s+", " ", terms).strip() in re.sub(r"[\s.]*\n \.\n|\s+", " ", text.replace("\n .\n", "\n"))
    assert "Copyright: 1995-2022 Jean-loup Gailly and Mark Adler" in text
    assert text.count("\nFiles: ") == 2
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_manual_page_has_every_option_of_the_program():
    help_texts = (ROOT / "runtime" / "c" / "device" / "help.h").read_text()
    options = set(re.findall(r"^ {2}(?:-h, )?(--[a-z-]+)", help_texts, re.MULTILINE)) | {"--onnxruntime"}
    page = TEXTS.manual_page(EPOCH).replace("\\-", "-")
    assert len(options) > 10
    assert [option for option in sorted(options) if option not in page] == []
    data = DEB._packed(page)
    assert (gzip.decompress(data), data[4:8]) == (page.encode(), bytes(4))


def test_the_package_is_named_after_the_interface_of_the_library():
    cmake = (ROOT / "runtime" / "c" / "CMakeLists.txt").read_text()
    [version] = re.findall(r"SOVERSION (\d+)", cmake)
    assert f"liblstm-edge{version}" in TEXTS.PACKAGES
    assert f"liblstm_edge.so.{version}" == DEB.OURS
