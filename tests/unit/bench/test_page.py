"""The page has a place for each measurement that is put into it."""

import pytest

from bench import page


@pytest.mark.parametrize("name", page.SECTIONS)
def test_the_page_has_a_place_for_it(name: str) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- end of {name} -->") == 1
