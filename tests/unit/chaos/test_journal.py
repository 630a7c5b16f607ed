from pathlib import Path

from tests.chaos import journal
from tests.chaos.journal import Accepted, Journal, Seen


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    seen = Seen(
        id="one",
        revision=2,
        state="SUCCEEDED",
        attempt=1,
        images=[(0, "abc", 3)],
        failure_reason="",
        gateway="gateway",
        asked=0.5,
    )
    with Journal(file) as written:
        written.write(Accepted(request_id="wish", id="one"), by="client")
        written.write(seen, by="client")
    accepted, read = journal.read(file)
    assert isinstance(accepted, Accepted)
    assert isinstance(read, Seen)
    assert (accepted.request_id, accepted.by, read.images) == ("wish", "client", [(0, "abc", 3)])
    assert accepted.at <= read.at


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with Journal(file) as written:
        written.write(Accepted(request_id="wish", id="one"), by="client")
    with file.open("a") as stream:
        stream.write('{"fact": "Acc')
    assert len(journal.read(file)) == 1
