"""Pictures in the terminal."""

import base64
import io
import os
import pty
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from rich.console import Console
from typer.testing import CliRunner

from easel.cli import graphics, picture
from easel.cli.arguments import ShowAs
from easel.cli.graphics import Cell
from easel.cli.main import app
from easel.cli.picture import Gallery
from easel.client import Preview
from tests.unit.easel.command_line import drawing, easel, on_a_terminal, one_line
from tests.unit.easel.scripted import ID, Answer, FileServer, ScriptedServer, preview
from tests.unit.easel.scripted import picture as described

RED, BLUE = (255, 0, 0), (0, 0, 255)

KITTY_REPLY = b"\x1b_Gi=31;OK\x1b\\\x1b[?62;c"
SIXEL_REPLY = b"\x1b[?62;4;22c"
PLAIN_REPLY = b"\x1b[?62;14;22c"


def half_red_half_blue(width: int = 64, height: int = 64) -> PIL.Image.Image:
    made = PIL.Image.new("RGB", (width, height), RED)
    made.paste(BLUE, (0, height // 2, width, height))
    return made


def png(image: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def decode_kitty(text: str) -> tuple[dict[str, str], PIL.Image.Image]:
    """Read kitty's protocol as a terminal does."""
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    controls = [dict(pair.split("=") for pair in control.split(",")) for control, _ in pieces]
    assert [each["m"] for each in controls] == ["1"] * (len(pieces) - 1) + ["0"]
    assert all(len(payload) <= 4096 for _, payload in pieces)
    return controls[0], PIL.Image.open(io.BytesIO(base64.b64decode("".join(payload for _, payload in pieces))))


def decode_sixel(text: str) -> PIL.Image.Image:
    """Draw sixels as a terminal does."""
    found = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    assert found is not None
    drawn = PIL.Image.new("RGB", (int(found[1]), int(found[2])))
    palette: dict[str, tuple[int, ...]] = {}
    colour, column, top = RED, 0, 0
    for number, defined, repeat, repeated, single, control in re.findall(
        r"#(\d+)(;2;\d+;\d+;\d+)?|!(\d+)([?-~])|([?-~])|([$-])", found[3]
    ):
        if defined:
            palette[number] = tuple(round(int(level) * 2.55) for level in defined.split(";")[2:])
        elif number:
            colour = palette[number]  # type: ignore[assignment]
        elif control:
            column, top = 0, top + 6 * (control == "-")
        for _ in range(int(repeat or 1) if single or repeated else 0):
            for row in range(6):
                if (ord(single or repeated) - 63) >> row & 1:
                    drawn.putpixel((column, top + row), colour)
            column += 1
    return drawn


@pytest.mark.parametrize("size", [(8, 8), (300, 200)])
def test_kitty_gets_the_picture_in_pieces(size: tuple[int, int]) -> None:
    original = PIL.Image.effect_noise(size, 60).convert("RGB")
    controls, sent = decode_kitty(picture.kitty(original, columns=30, rows=10))
    assert (controls["a"], controls["f"], controls["c"], controls["r"]) == ("T", "100", "30", "10")
    assert sent.tobytes() == original.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (60, 45)])
def test_sixels_draw_the_picture(size: tuple[int, int]) -> None:
    drawn = decode_sixel(picture.sixel(half_red_half_blue(*size)))
    width, height = size
    assert drawn.size == size
    assert drawn.getpixel((width - 1, height - 1)) == BLUE
    assert drawn.getpixel((0, 0)) == (RED if height > 1 else BLUE)


def test_sixels_of_many_colours_are_near_the_original() -> None:
    original = PIL.Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    drawn = decode_sixel(picture.sixel(original))
    for place in ((0, 0), (10, 20), (63, 63)):
        assert original.getpixel(place) == pytest.approx(drawn.getpixel(place), abs=4)


def blocks_on(console: Console, image: PIL.Image.Image, tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    path.write_bytes(png(image))
    Gallery(ShowAs.BLOCKS, console=console).show([path])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def colours(system: str) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=40,
        height=30,
        color_system=system,  # type: ignore[arg-type]
    )


def test_half_blocks_are_two_pixels_a_character(tmp_path: Path) -> None:
    written = blocks_on(colours("truecolor"), half_red_half_blue(), tmp_path)
    lines = written.strip("\n").splitlines()
    assert len(lines) == 20
    assert all(line.count("▀") == 40 for line in lines)
    assert "\x1b[38;2;255;0;0;48;2;255;0;0m" in lines[0]
    assert "\x1b[38;2;0;0;255;48;2;0;0;255m" in lines[-1]


def test_half_blocks_take_the_nearest_of_256_colours(tmp_path: Path) -> None:
    written = blocks_on(colours("256"), half_red_half_blue(), tmp_path)
    assert "\x1b[38;5;196;48;5;196m" in written
    assert "38;2;" not in written


@pytest.mark.parametrize(("size", "columns", "rows"), [((64, 64), 40, 20), ((640, 64), 40, 2), ((8, 512), 1, 24)])
def test_a_picture_keeps_its_proportions_and_fits(
    tmp_path: Path, size: tuple[int, int], columns: int, rows: int
) -> None:
    lines = blocks_on(colours("truecolor"), half_red_half_blue(*size), tmp_path).strip("\n").splitlines()
    assert (lines[0].count("▀"), len(lines)) == (columns, rows)


@pytest.mark.parametrize("way", [ShowAs.KITTY, ShowAs.SIXEL])
def test_pictures_of_pixels_are_as_large_as_their_characters(tmp_path: Path, way: ShowAs) -> None:
    console = colours("truecolor")
    (tmp_path / "picture.jpg").write_bytes(png(half_red_half_blue(128, 64)))
    Gallery(way, console=console, cell=Cell(8, 16)).show([tmp_path / "picture.jpg"])
    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue().strip("\n")
    drawn = decode_kitty(written)[1] if way is ShowAs.KITTY else decode_sixel(written)
    assert drawn.size == (40 * 8, 10 * 16)


def test_what_is_no_picture_is_told_of_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "picture.png").write_bytes(b"nonsense")
    Gallery(ShowAs.BLOCKS, console=colours("truecolor")).show([tmp_path / "picture.png"])
    assert "cannot show" in one_line(capsys.readouterr().err)


def test_a_preview_that_cannot_be_read_is_no_trouble() -> None:
    gallery = Gallery(ShowAs.KITTY, console=colours("truecolor"))
    console = colours("truecolor")
    console.print(gallery.draw_preview(Preview(data=b"nonsense")))
    assert "cannot be read" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal: our end, and the one that programs see."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("reply", "way"),
    [
        (KITTY_REPLY, ShowAs.KITTY),
        (SIXEL_REPLY, ShowAs.SIXEL),
        (PLAIN_REPLY, ShowAs.BLOCKS),
        (b"\x1b[?4c", ShowAs.BLOCKS),  # a VT132: the first number is its class
        (b"\x1b_Gi=31;ENOTSUPPORTED\x1b\\\x1b[?62c", ShowAs.BLOCKS),
        (b"q\x1b[?62;4c", ShowAs.SIXEL),
    ],
    ids=["kitty", "sixel", "neither", "class 4", "kitty says no", "somebody types"],
)
def test_the_terminal_is_asked(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch, reply: bytes, way: ShowAs
) -> None:
    ours, theirs = terminal
    monkeypatch.setattr("os.tcgetpgrp", lambda _: os.getpgrp())

    def answer() -> None:
        asked = b""
        while not asked.endswith(graphics.QUERY):
            asked += os.read(ours, 1024)
        os.write(ours, reply)

    answering = threading.Thread(target=answer)
    answering.start()
    assert graphics.find_way(Path(os.ttyname(theirs))) is way
    answering.join()


def test_a_terminal_that_does_not_answer_gets_blocks(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.tcgetpgrp", lambda _: os.getpgrp())
    assert graphics.ask(terminal[1], timeout_seconds=0.05) == b""


def test_in_the_background_nobody_touches_the_terminal(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = terminal
    monkeypatch.setattr("os.tcgetpgrp", lambda _: os.getpgrp() + 1)
    assert graphics.ask(theirs) == b""
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)


def test_where_no_terminal_is_there_are_blocks(tmp_path: Path) -> None:
    assert graphics.find_way(tmp_path / "nowhere") is ShowAs.BLOCKS
    (tmp_path / "file").write_bytes(b"")
    assert graphics.find_way(tmp_path / "file") is ShowAs.BLOCKS


def test_a_terminal_that_does_not_tell_its_size_has_usual_characters(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert graphics.find_cell(file.fileno()) == Cell()


PICTURE = png(half_red_half_blue())


@pytest.mark.parametrize("command", ["generate", "get", "watch", "retry"])
async def test_a_terminal_that_can_shows_the_picture(server: ScriptedServer, tmp_path: Path, command: str) -> None:
    async with FileServer(Answer(body=PICTURE)) as files:
        image = described(PICTURE, url=files.url())
        server.generation.images.append(image)
        server.scripts.append(drawing(files.url(), file=PICTURE))
        what = "a castle" if command == "generate" else ID
        ended, said = await on_a_terminal(
            [command, what, "--show", "--target", server.target], folder=tmp_path, replies=KITTY_REPLY
        )
    assert ended == 0, said
    start = said.index("\x1b_Ga=T")
    controls, shown = decode_kitty(said[start : said.rindex("\x1b\\") + 2])
    assert shown.getpixel((0, 0)) == RED
    assert shown.size == (int(controls["c"]) * 10, int(controls["r"]) * 20)


async def test_previews_show_above_the_bar(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=PICTURE)) as files:
        server.scripts.append(drawing(files.url(), file=PICTURE, between=(preview(step=20, data=PICTURE),)))
        ended, said = await on_a_terminal(
            ["generate", "a castle", "--show-as", "sixel", "--preview-every", "2", "--target", server.target],
            folder=tmp_path,
        )
    assert ended == 0, said
    assert "▀" in said[: said.index("\x1bPq")]
    assert server.requests[-1].spec.preview.every_steps == 2  # type: ignore[attr-defined]


async def test_blocks_go_through_a_pipe_when_they_are_asked_for(server: ScriptedServer, tmp_path: Path) -> None:
    async with FileServer(Answer(body=PICTURE)) as files:
        server.generation.images.append(described(PICTURE, url=files.url()))
        outcome = await easel(
            "get",
            ID,
            "--show-as",
            "blocks",
            "--target",
            server.target,
            folder=tmp_path,
            environment={"TERM": "xterm-256color"},
        )
    assert outcome.status == 0, outcome.stderr
    assert "▀" in outcome.stdout
    assert list_files(tmp_path) == []


def list_files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_without_pillow_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = CliRunner().invoke(app, ["get", ID, "--show"])
    assert result.exit_code == 2
    assert "pip install 'easel[show]'" in one_line(result.stderr)
