"""The configuration files: which are read, and when they are read whole."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.configuration import FORMAT, load_files, read

from authz.errors import ConfigurationError
from authz.kong import files, state
from authz.kong.files import DIRECTORY_ENTRIES_MAX, LOOK_PAUSE_SECONDS, LOOKS_MAX, Reading
from authz.methods import METHOD_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.model import Gateway

NOBODY = 65_534


def text(*sections: str) -> str:
    return FORMAT + "".join(f"{section}\n" for section in sections)


def consumer(name: str) -> str:
    return text(f"consumers: [{{username: {name}}}]")


def consumers(gateway: Gateway) -> list[str | None]:
    return [each.username for each in gateway.consumers]


def refusal(*paths: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_files(*paths)
    return [str(problem) for problem in caught.value.problems]


# --- Which are read -----------------------------------------------------------------


def test_CF_01_a_missing_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "kong.yaml"
    with pytest.raises(ConfigurationError) as caught:
        load_files(missing)
    assert str(caught.value) == f"{missing}:1:1: file: cannot be read: No such file or directory"


def test_CF_01_a_directory_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory without"):
        load_files(tmp_path)


def test_CF_01_an_unreadable_file_is_named(tmp_path: Path) -> None:
    loop = tmp_path / "kong.yaml"
    loop.symlink_to(loop)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_files(loop)


def test_all_files_are_read_before_anything_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text("servces: []"))
    (tmp_path / "b.yaml").write_text("a: [")
    with pytest.raises(ConfigurationError) as caught:
        load_files(tmp_path)
    assert len(caught.value.problems) == 2


def test_no_file_at_all_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no configuration is named"):
        load_files()


def test_a_directory_is_merged_by_appending(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text(text("consumers: [{username: a}]"))
    (tmp_path / "sub" / "b.json").write_text('{"consumers": [{"username": "b"}]}')
    (tmp_path / "c.txt").write_text("not read")
    gateway = load_files(tmp_path)
    assert [consumer.username for consumer in gateway.consumers] == ["a", "b"]


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "..2026_01_01").mkdir()
    (tmp_path / "..2026_01_01" / "kong.yaml").write_text(text("consumers: [{username: a}]"))
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "kong.yaml").symlink_to("..data/kong.yaml")
    assert len(load_files(tmp_path).consumers) == 1


def test_files_and_directories_can_be_read_again_and_pipes_cannot(tmp_path: Path) -> None:
    file, pipe = tmp_path / "kong.yaml", tmp_path / "pipe"
    file.write_text(text("services: []"))
    os.mkfifo(pipe)
    assert files.is_rereadable([str(file), str(tmp_path), str(tmp_path / "gone.yaml")])
    for once in (str(pipe), "-", "/dev/null"):
        assert not files.is_rereadable([str(file), once])


def test_a_pipe_is_read_at_the_start_to_its_end_and_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        stream.write(text("services: [{host: h}]"))
    (tmp_path / "kong.yaml").write_text(consumer("a"))
    try:
        gateway = load_files(f"/dev/fd/{reading}", tmp_path)
    finally:
        os.close(reading)
    assert (len(gateway.services), consumers(gateway)) == (1, ["a"])


def test_nothing_is_waited_for_where_only_standard_input_is_read() -> None:
    def pause(_: float) -> None:
        raise AssertionError

    assert consumers(state.parse(read(["-"], consumer("a").encode, pause), {}, METHOD_NAMES)) == [
        "a"
    ]


def test_a_pipe_in_a_directory_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text("services: []"))
    os.mkfifo(tmp_path / "b.yaml")
    [problem] = refusal(tmp_path)
    assert "b.yaml:1:1: file: is no file" in problem


def test_what_was_read_once_makes_the_same_gateway_anywhere(tmp_path: Path) -> None:
    (tmp_path / "kong.yaml").write_text(consumer("a"))
    sources = read([tmp_path])

    assert state.parse(sources, {}, METHOD_NAMES) == load_files(tmp_path)


# --- G3: nothing is passed over in silence ----------------------------------------------


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be a user who may do nothing, for root may enter everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that somebody else may enter: those of pytest are their owner's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "a.yaml").write_text(consumer("a"))
        yield Path(name)


def test_G_03_a_directory_that_may_not_be_entered_is_an_error(shared: Path) -> None:
    closed = shared / "plugins"
    closed.mkdir()
    (closed / "b.yaml").write_text(consumer("b"))
    assert consumers(load_files(shared)) == ["a", "b"]
    closed.chmod(0)
    with somebody_else():
        said = refusal(shared)
    closed.chmod(0o700)

    assert said == [f"{closed}:1:1: file: cannot be read: Permission denied"]


def test_G_03_a_file_that_may_not_be_read_is_an_error_also_behind_a_closed_directory(
    shared: Path,
) -> None:
    closed = shared / "plugins"
    closed.mkdir()
    (closed / "b.yaml").write_text(consumer("b"))
    (shared / "link.yaml").symlink_to("plugins/b.yaml")
    (shared / "c.yaml").write_text(consumer("c"))
    (shared / "c.yaml").chmod(0)
    closed.chmod(0)
    with somebody_else():
        said = refusal(shared)
        alone = refusal(closed / "b.yaml")
    closed.chmod(0o700)

    assert [line.partition(": cannot be read: ")[::2] for line in said] == [
        (f"{shared}/c.yaml:1:1: file", "Permission denied"),
        (f"{shared}/link.yaml:1:1: file", "Permission denied, a link to plugins/b.yaml"),
        (f"{shared}/plugins:1:1: file", "Permission denied"),
    ]
    assert alone == [f"{closed}/b.yaml:1:1: file: cannot be read: Permission denied"]


def test_G_03_a_link_to_nothing_is_an_error_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(consumer("a"))
    (tmp_path / "plugins").symlink_to("gone")
    assert refusal(tmp_path) == [
        f"{tmp_path}/plugins:1:1: file: cannot be read: No such file or directory, a link to gone"
    ]


def test_G_03_links_that_go_round_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(consumer("a"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to("..")
    (tmp_path / "sub" / "self").symlink_to("self")
    loop, up = refusal(tmp_path)
    assert loop.startswith(f"{tmp_path}/sub/self:1:1: file: cannot be read: Too many levels of")
    assert up == f"{tmp_path}/sub/up:1:1: file: is a link to a directory that it stands in"


def test_G_03_a_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    """As a ConfigMap has one for each path with a directory in it."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.yaml").write_text(consumer("a"))
    (tmp_path / "conf" / "sub").symlink_to("../elsewhere")
    assert consumers(load_files(tmp_path / "conf")) == ["a"]


@pytest.mark.parametrize("name", ["plugins.YAML", "plugins.Yml", "plugins.JSON", ".plugins.yaml"])
def test_G_03_a_suffix_has_no_case_and_a_hidden_file_is_one_as_for_deck(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text('{"_format_version": "3.0", "consumers": [{"username": "a"}]}')
    assert consumers(load_files(tmp_path)) == ["a"]


def test_G_03_a_hidden_directory_is_read_too(tmp_path: Path) -> None:
    (tmp_path / ".sub").mkdir()
    (tmp_path / ".sub" / "a.yaml").write_text(consumer("a"))
    assert consumers(load_files(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    "name",
    [
        "kong.yaml~",
        "kong.YAML.bak",
        ".kong.yaml.swp",
        "#kong.yaml#",
        ".kong.yaml.x7Ga2c",
        "plugins.json.disabled",
    ],
)
def test_G_03_what_looks_like_configuration_and_is_not_read_is_named(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "a.yaml").write_text(consumer("a"))
    (tmp_path / "README.md").write_text("")
    (tmp_path / name).write_text(consumer("b"))
    gateway = load_files(tmp_path)
    [notice] = gateway.notices

    assert consumers(gateway) == ["a"]
    assert str(notice).startswith(f"{tmp_path}:1:1: file: these look like configuration")
    assert notice.message.endswith(f": {name}")


def test_G_03_many_that_are_not_read_are_one_notice(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(consumer("a"))
    for number in range(9):
        (tmp_path / f"kong.yaml.{number}").write_text("")
    [notice] = load_files(tmp_path).notices
    assert notice.message.endswith("kong.yaml.4 and 4 more")


def test_G_03_an_editors_lock_which_leads_nowhere_is_named_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "kong.yaml").write_text(consumer("a"))
    (tmp_path / ".#kong.yaml").symlink_to("somebody@host.4711:1700000000")
    [notice] = load_files(tmp_path).notices
    assert notice.message.endswith(": .#kong.yaml")


def test_a_tree_without_end_is_given_up(tmp_path: Path) -> None:
    for number in range(DIRECTORY_ENTRIES_MAX + 1):
        (tmp_path / f"{number}.txt").touch()
    assert f"makes more than {DIRECTORY_ENTRIES_MAX} entries" in refusal(tmp_path)[0]


# --- G2: read when still ----------------------------------------------------------------


def looks(path: Path, *between: Callable[[], object]) -> tuple[list[str | None], int]:
    """Return the consumers once the path keeps still, and the pauses, in which this happens."""
    steps = iter(between)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        next(steps, lambda: None)()

    gateway = state.parse(read([path], pause=pause), {}, METHOD_NAMES)
    assert set(pauses) == {LOOK_PAUSE_SECONDS}
    return consumers(gateway), len(pauses)


def test_G_02_a_file_that_keeps_still_is_taken_at_the_second_look(tmp_path: Path) -> None:
    (tmp_path / "kong.yaml").write_text(consumer("a"))
    assert looks(tmp_path / "kong.yaml") == (["a"], 1)


def test_G_02_a_file_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    whole = text("consumers:", "- username: a", "- username: b", "- username: c")
    lines = whole.splitlines(keepends=True)

    def write(count: int) -> Callable[[], object]:
        return lambda: file.write_text("".join(lines[:count]))

    write(3)()
    assert looks(file, write(4), write(5)) == (["a", "b", "c"], 3)


def test_G_02_equal_bytes_at_another_place_or_time_are_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(consumer("a"))
    status = file.stat()
    os.utime(file, ns=(0, 0))

    def replace() -> None:
        (tmp_path / "new").write_text(consumer("a"))
        (tmp_path / "new").rename(file)
        os.utime(file, ns=(0, 0))

    def rewrite() -> None:
        file.write_text(consumer("a"))
        os.utime(file, ns=(0, 0))  # who sets the time back changes that of the change

    assert status.st_size == file.stat().st_size
    assert looks(file, replace, rewrite) == (["a"], 3)


def test_G_02_a_link_that_leads_elsewhere_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "one").write_text(consumer("a"))
    (tmp_path / "two").hardlink_to(tmp_path / "one")  # the same file but for its name
    link = tmp_path / "kong.yaml"
    link.symlink_to("one")

    def lead_elsewhere() -> None:
        link.unlink()
        link.symlink_to("two")

    assert looks(link, lead_elsewhere) == (["a"], 2)


def test_G_02_an_editor_that_renames_and_writes_anew_leaves_no_error(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(consumer("a"))

    def rename() -> None:
        file.rename(tmp_path / "kong.yaml~")

    assert looks(file, rename, lambda: file.write_text(consumer("b"))) == (["b"], 3)


def test_G_02_a_config_map_that_is_swapped_is_read_from_one_side(tmp_path: Path) -> None:
    def publish(version: str) -> None:
        side = tmp_path / f"..2026_01_01_00_00_00.{version}"
        side.mkdir()
        for name in "ab":
            (side / f"{name}.yaml").write_text(consumer(f"{name}{version}"))
        (tmp_path / "..data_tmp").symlink_to(side.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    publish("1")
    for name in "ab":
        (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")

    assert looks(tmp_path, lambda: publish("2")) == (["a2", "b2"], 2)


def test_G_02_a_file_that_comes_or_goes_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(consumer("a"))
    come = tmp_path / "b.yaml"
    assert looks(tmp_path, lambda: come.write_text(consumer("b")))[0] == ["a", "b"]
    assert looks(tmp_path, come.unlink)[0] == ["a"]


def test_G_02_an_upload_under_another_name_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(consumer("a"))
    part = tmp_path / ".b.yaml.x7Ga2c"
    part.write_text("")
    grown = [lambda: part.write_text("consu"), lambda: part.write_text(consumer("b"))]
    assert looks(tmp_path, *grown, lambda: part.rename(tmp_path / "b.yaml")) == (["a", "b"], 4)


def test_G_02_what_never_keeps_still_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "still.yaml").write_text(consumer("still"))
    moving = tmp_path / "moving.yaml"
    moving.write_text("")
    reading = Reading([str(tmp_path)])
    for number in range(LOOKS_MAX - 1):
        assert reading.look() is None
        moving.write_text("#" * number)
    sources = reading.look()

    assert sources is not None
    assert sources.files == ()
    [error] = sources.errors
    assert str(error).startswith(f"{moving}:1:1: file: does not keep still")
    with pytest.raises(ConfigurationError, match="does not keep still"):
        state.parse(sources, {}, METHOD_NAMES)
    assert (LOOKS_MAX - 1) * LOOK_PAUSE_SECONDS == 5
