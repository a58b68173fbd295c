import pytest

from labkit.load.words import counted, measured


@pytest.mark.parametrize(("number", "words"), [
    (0.001234, "0.00123"), (12.345, "12.3"), (999.4, "999"), (999.9, "1\u202f000"), (1984.2, "1\u202f980"), (0, "0"),
    (1234567, "1\u202f230\u202f000"), (-1984.2, "-1\u202f980"),
])
def test_measured_numbers_have_three_significant_digits(number, words):
    assert measured(number) == words


def test_counted_numbers_keep_every_digit():
    assert counted(12345) == "12\u202f345" and counted(7) == "7"
