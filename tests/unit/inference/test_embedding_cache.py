from inference.engine.embedding_cache import EmbeddingCache
from tests.unit.inference.recording_observer import RecordingObserver


def cache(*, most_bytes: int) -> EmbeddingCache[str]:
    return EmbeddingCache(most_bytes=most_bytes, size_bytes=len)


def test_what_was_computed_is_not_computed_again() -> None:
    kept = cache(most_bytes=10)

    assert [kept.get("a castle", lambda: "abc"), kept.get("a castle", lambda: "other")] == ["abc", "abc"]
    assert kept.bytes == 3


def test_it_is_observed_what_was_there() -> None:
    observer = RecordingObserver()
    kept: EmbeddingCache[str] = EmbeddingCache(most_bytes=10, size_bytes=len, observer=observer)
    for key in ("a castle", "a boat", "a castle"):
        kept.get(key, lambda: "abc")

    assert observer.lookups == [False, False, True]


def test_what_was_used_longest_ago_makes_room() -> None:
    kept = cache(most_bytes=6)
    for key in ("a", "b", "a", "c"):
        kept.get(key, lambda: "123")

    assert kept.bytes == 6
    assert kept.get("a", lambda: "new") == "123"
    assert kept.get("b", lambda: "new") == "new"


def test_what_is_larger_than_the_cache_drives_nothing_out() -> None:
    kept = cache(most_bytes=3)
    kept.get("a", lambda: "123")

    assert kept.get("b", lambda: "1234") == "1234"
    assert kept.get("a", lambda: "new") == "123"


def test_a_cache_without_room_keeps_nothing() -> None:
    kept = cache(most_bytes=0)

    assert [kept.get("a", lambda: "1"), kept.get("a", lambda: "2")] == ["1", "2"]
    assert kept.bytes == 0


def test_what_fails_is_tried_again() -> None:
    kept = cache(most_bytes=10)

    def fail() -> str:
        raise OSError

    for _ in range(2):
        try:
            kept.get("a", fail)
        except OSError:
            continue
    assert kept.get("a", lambda: "1") == "1"
