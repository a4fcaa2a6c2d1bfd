"""What else may lie in a folder, and paths that are none."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coterie.data import open_source
from coterie.data.files import escaped, regular_file
from coterie.types import InputError, ItemSpec
from helpers import forked

RGB = ItemSpec("images", 3, 16, 16)


def paint(path: Path, seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(9):
        paint(tmp_path / "t" / f"{number}.png", number)
    return tmp_path / "t"


def reasons(source) -> dict[str, str]:
    return {item.id: item.reason for item in source.skipped}


def test_pipes_and_sockets_are_not_opened_also_behind_links(folder, tmp_path):
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(tmp_path / "outside")
    (folder / "link.png").symlink_to(tmp_path / "outside")
    here = Path.cwd()
    os.chdir(folder)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.jpg")
            source = open_source(folder, max_skipped=0.5)
    finally:
        os.chdir(here)
    assert len(source.items) == 9
    assert reasons(source) == {
        "pipe.png": "it is a pipe, no file",
        "link.png": "it is a pipe, no file",
        "socket.jpg": "it is a socket, no file",
    }


def test_links_to_devices_to_nothing_and_to_themselves_are_named(folder):
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "self").symlink_to(folder / "self")
    source = open_source(folder, max_skipped=0.5)
    assert len(source.items) == 9
    assert reasons(source) == {
        "zero.png": "it is a device, no file",
        "gone.png": "no such file or directory",
        "self.png": "too many levels of symbolic links",
    }


@pytest.mark.parametrize("name", ["x", "x.png", "x.npy", "x.npz", "x.parquet"])
def test_a_pipe_as_source_is_refused_and_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "link"):
        for like in (None, RGB):
            with pytest.raises(InputError, match="is a pipe; give a file"):
                open_source(path, like=like)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/stdin"])
def test_devices_as_source_are_refused(path):
    if not os.path.exists(path):
        pytest.skip("there is no such device here")
    with pytest.raises(InputError, match=r"is a device; give a file|is a pipe|is no source"):
        open_source(path)


@pytest.mark.parametrize("path", ["/proc", "/sys", "/proc/self"])
def test_folders_of_the_system_are_refused(path):
    if not os.path.exists(path):
        pytest.skip("there is no such folder here")
    with pytest.raises(InputError, match="a folder of the system, which holds no files"):
        open_source(path)


def test_a_link_into_the_system_is_not_followed(folder):
    if not os.path.exists("/proc/self"):
        pytest.skip("there is no such folder here")
    (folder / "more").symlink_to("/proc")
    assert reasons(open_source(folder)) == {"more/": "a folder of the system, which holds no files"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("\t\n", "is empty"),
        ("a\0b", "zero byte"),
        ("~nobody-of-that-name/photos", "names a user that this machine does not know"),
        ("https://example.org/photos.zip", "is an address.*download it first"),
        ("file:///no/such/place", "is no file, no folder"),
        ("file://host/photos", "names a file of another computer"),
        ("nothing://bucket/photos", "an address of a kind that fsspec does not know"),
        ("memory://name:secret@bucket/photos", "holds no name, no password"),
        ("memory://no-such-place", "There is no file at memory://no-such-place"),
        ("x" * 300, "cannot be looked up"),
        ("y/" * 3000, "cannot be looked up"),
        ("no/such/place", "is no file, no folder and no named data set: check the path"),
        ("line\nbreak\x1b[2J", r"line\\nbreak\\x1b\[2J is no file"),
        ("not\udcffutf8", r"not\\xffutf8 is no file"),
    ],
)
def test_texts_that_are_no_path_get_one_sentence(text, message):
    with pytest.raises(InputError, match=message) as caught:
        open_source(text)
    assert len(str(caught.value)) < 600
    str(caught.value).encode()


def test_the_home_folder_a_dot_and_trailing_slashes_are_paths(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder)
    for text in (".", "./", f"{folder}//", "~/t", "~/t/", "../t"):
        assert len(open_source(text).items) == 9


def test_names_with_control_characters_are_written_as_escapes(folder):
    for name in ("new\nline.png", "clear\x1b[2J.png", "tab\t.jpg", "long" * 60 + ".png", "\u00e4\u6f22.png"):
        paint(folder / name)
    (folder / "no\npicture.png").write_text("text")
    source = open_source(folder)
    assert {"new\\nline.png", "clear\\x1b[2J.png", "tab\\t.jpg", "long" * 60 + ".png", "\u00e4\u6f22.png"} < set(
        source.ids
    )
    assert reasons(source) == {"no\\npicture.png": "not an image"}
    assert all(escaped(name) == name for name in source.ids)


def test_files_left_out_are_counted_by_type_with_what_reads_them(folder):
    for number in range(8):
        (folder / f"IMG_{number}.HEX").write_bytes(b"x")
    for name in ("a.mov", "b.MOV", "c.pdf", "d.nef", "e.zip", "f.txt", "g", "h.svg", "i.ai", "Thumbs.db", ".DS_Store"):
        (folder / name).write_bytes(b"x")
    paint(folder / "__MACOSX" / "._0.png")
    paint(folder / "__MACOSX" / "0.png")
    source = open_source(folder)
    assert len(source.items) == 9
    note = next(note for note in source.notes if "left out" in note)
    assert note.startswith("17 files were left out: 8 .hex, 2 .mov (take pictures out of them first), ")
    for words in ("1 without an extension", "1 .ai (save them as PNG)", "3 of 3 other types"):
        assert words in note


@pytest.mark.parametrize("junk", ["@eaDir/0.png", "#recycle", "@Recycle", "sub/@eaDir/1.png"])
def test_thumbnails_and_bins_of_network_storage_are_no_pictures(folder, junk):
    paint(folder / junk / "SYNOPHOTO_THUMB_M.jpg")
    paint(folder / "sub" / "0.png")
    assert "SYNO" not in " ".join(open_source(folder).ids)
    assert len(open_source(folder).items) == 10


def test_phone_pictures_are_named_with_what_reads_them(folder, monkeypatch):
    from coterie.data import extensions

    known = extensions.extensions() - {".heic", ".heif", ".hif"}
    monkeypatch.setattr("coterie.data.folders.extensions", lambda: known)
    for number in range(3):
        (folder / f"IMG_{number}.HEIC").write_bytes(b"ftypheic")
    note = next(note for note in open_source(folder).notes if "left out" in note)
    assert note == "3 files were left out: 3 .heic (pip install 'coterie[heif]' reads them)."
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"holds no images .*3 other files: 3 \.heic \(pip install 'coterie\[heif\]'"):
        open_source(folder)


def test_everything_that_pillow_reads_plainly_is_read(tmp_path):
    wanted = [("x.pgm", "L"), ("x.ppm", "RGB"), ("x.pbm", "1"), ("x.pnm", "RGB"), ("x.jfif", "RGB"), ("x.jpe", "RGB")]
    wanted += [("x.jp2", "RGB"), ("x.tga", "RGB"), ("X.PNG", "P")]
    for name, mode in wanted:
        pixels = np.full((16, 16, 3), (255, 0, 0), np.uint8)
        kind = {"x.jfif": "JPEG", "x.jpe": "JPEG"}.get(name)
        Image.fromarray(pixels).convert(mode).save(tmp_path / name, format=kind)
    source = open_source(tmp_path)
    assert len(source.items) == len(wanted)
    assert source.skipped == []
    reds = source.items.take(torch.arange(len(wanted))).float().mean((2, 3))
    for name, red in zip(source.ids, reds, strict=True):
        if name not in ("x.pgm", "x.pbm"):
            assert torch.allclose(red, torch.tensor([255.0, 0, 0]), atol=6), name


def test_the_content_counts_and_not_the_end_of_the_name(folder):
    paint(folder / "0.png").rename(folder / "truly-a-png.jpg")
    (folder / "text.png").write_text("P? not a picture")
    (folder / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    source = open_source(folder, max_skipped=0.5)
    assert "truly-a-png.jpg" in source.ids
    assert reasons(source) == {"script.png": "not an image", "text.png": "not an image"}


@pytest.mark.parametrize("suffix", [".gif", ".png", ".tif", ".webp"])
def test_of_several_frames_the_first_is_taken_and_a_note_says_so(folder, suffix):
    first = Image.open(folder / "0.png").convert("P" if suffix == ".gif" else "RGB")
    others = [Image.new(first.mode, (16, 16), number) for number in range(2)]
    lossless = {"lossless": True} if suffix == ".webp" else {}
    first.save(folder / f"moving{suffix}", save_all=True, append_images=others, **lossless)
    source = open_source(folder)
    assert any(note.startswith("1 picture has more frames or pages") for note in source.notes)
    taken = source.items.take(torch.tensor([list(source.ids).index(f"moving{suffix}")]))[0]
    assert np.array_equal(taken.permute(1, 2, 0).numpy(), np.asarray(first.convert("RGB")))


def test_a_model_takes_a_single_file_and_a_fit_does_not(folder):
    whole = open_source(folder)
    one = open_source(folder / "3.png", like=whole.items.spec)
    assert list(one.ids) == ["3.png"]
    assert torch.equal(one.items.take(torch.tensor([0])), whole.items.take(torch.tensor([3])))
    with pytest.raises(InputError, match="a single picture, which cannot be grouped: give the folder"):
        open_source(folder / "3.png")
    (folder / "bad.png").write_text("text")
    with pytest.raises(InputError, match=r"The picture bad.png cannot be read \(not an image\)"):
        open_source(folder / "bad.png", like=RGB)


def test_progress_is_told_for_both_passes(folder):
    heard = []
    open_source(folder, progress=lambda *what: heard.append(what))
    assert heard == [("looking", 9, 9), ("decoding", 9, 9)]


def test_regular_files_only(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    assert regular_file(tmp_path / "link", "The file") == tmp_path / "link"
    for name, message in {
        "pipe": "is a pipe; give a file",
        "": "is a folder; give a file",
        "none": "does not exist",
        "n" * 300: "cannot be looked up",
        "z\0": "cannot be looked up",
    }.items():
        with pytest.raises(InputError, match=f"^The file .*{message}"):
            regular_file(f"{tmp_path}/{name}", "The file")


RIGHTS = """
import os, sys
from coterie.data import open_source
open_source(sys.argv[1])  # imports what the other user may not
os.setgroups([]); os.setgid(65534); os.setuid(65534)
source = open_source(sys.argv[1], max_skipped=0.5)
print(len(source.items), sorted((item.id, item.reason) for item in source.skipped))
"""


def test_what_may_not_be_read_is_listed_by_name(folder, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("another user is needed, which only root can become")
    paint(folder / "shut" / "x.png")
    os.chmod(folder / "shut", 0o700)
    os.chmod(folder / "4.png", 0o600)
    base = tmp_path_factory.getbasetemp()
    for above in (folder, *folder.parents):
        if above.name.startswith(("pytest", "popen")) or base in (above, *above.parents):  # of pytest, none of others
            os.chmod(above, 0o755)
    done = forked.run(RIGHTS, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == "8 [('4.png', 'permission denied'), ('shut/', 'permission denied')]\n"
