"""How a request is read."""

import pytest

from api.requests import whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("123456789", 123_456_789), ("1234567890", None), ("", None), ("-1", None), ("٣", None)],
)
def test_a_number_of_an_address_is_a_few_ascii_digits(text: str, number: int | None) -> None:
    assert whole_number(text) == number
