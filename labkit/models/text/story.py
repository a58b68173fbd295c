"""Short stories: five plots over one lexicon, with names, things and places that stay the same to the end."""

from __future__ import annotations

from labkit.models.text.draw import Draw
from labkit.models.text.lexicon import ANIMALS, COLORS, FEELINGS, FOODS, MOODS, NAMES, PLACES, THINGS, TIMES, VERBS, WEATHER


def a(words: str) -> str:
    """The words with the indefinite article that fits."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def story(draw: Draw, animal: str | None = None, chapters: int = 1) -> str:
    """A story of about 110 tokens a chapter about a named animal (this kind of animal, if given)."""
    animal = animal or draw.choose(ANIMALS)
    name, other = draw.several(NAMES, 2)
    parts = [opening(draw, animal, name)]
    for _ in range(chapters):
        plot = draw.choose((lost, journey, gift, contest, storm))
        parts.append(plot(draw, name, other))
    parts.append(draw.choose(("The end.", f"And {name} slept well that night.", f"{name} never forgot that day.")))
    return " ".join(parts)


def opening(draw: Draw, animal: str, name: str) -> str:
    """How every story begins."""
    mood, place = draw.choose(MOODS), draw.choose(PLACES)
    first = draw.choose(("Once upon a time there was", "Long ago there was", "There once was"))
    return f"{first} {a(mood)} {animal} named {name}. {name} lived near the {place}."


def lost(draw: Draw, name: str, other: str) -> str:
    """A thing is lost, searched for in two places, and found in the third."""
    color, thing = draw.choose(COLORS), draw.choose(THINGS)
    first, second, third = draw.several(PLACES, 3)
    return (
        f"One {draw.choose(TIMES)} {name} lost a {draw.choose(('new', 'very old', 'small'))} {thing}. It was {color}. "
        f'"Have you seen my {color} {thing}?" {name} asked {other}. "Let us look for it," said {other}. '
        f"They looked at the {first}, but the {thing} was not there. They looked at the {second}, but the {thing} was not there. "
        f"At last they found the {color} {thing} at the {third}. {name} was {draw.choose(FEELINGS)} and thanked {other}."
    )


def journey(draw: Draw, name: str, other: str) -> str:
    """A walk from one place to another with a meeting in between."""
    start, end = draw.several(PLACES, 2)
    food, mood = draw.choose(FOODS), draw.choose(MOODS)
    return (
        f"One {draw.choose(TIMES)} {name} walked from the {start} to the {end}. The way was long, and the day was {draw.choose(WEATHER)}. "
        f"On the way {name} met {a(mood)} {draw.choose(ANIMALS)} named {other}. {other} was hungry. "
        f'"I have some {food}," said {name}. They ate the {food} and {draw.choose(VERBS)} together. '
        f"Then {name} and {other} went on to the {end}."
    )


def gift(draw: Draw, name: str, other: str) -> str:
    """A present is made and given."""
    color, thing = draw.choose(COLORS), draw.choose(THINGS)
    mine, yours = draw.choose(THINGS), draw.choose(FEELINGS)
    return (
        f"{other} was the best friend of {name}. One {draw.choose(TIMES)} {name} wanted to give {other} a present. "
        f'"What do you like?" asked {name}. "I like {color} things," said {other}. '
        f"So {name} went to the {draw.choose(PLACES)} and found {a(color)} {thing}. {other} took the {color} {thing} and was {yours}. "
        f"Then {other} gave {name} {a(mine)}."
    )


def contest(draw: Draw, name: str, other: str) -> str:
    """A race with a winner and a prize."""
    place, prize = draw.choose(PLACES), draw.choose(THINGS)
    winner, loser = draw.several((name, other), 2)
    return (
        f"One {draw.choose(TIMES)} there was a race to the {place}. The prize was {a(draw.choose(COLORS))} {prize}. "
        f"{name} ran fast, and {other} ran fast too. {winner} came to the {place} first and won the {prize}. "
        f'"Well done, {winner}," said {loser}. "Thank you, {loser}," said {winner}. Then they {draw.choose(VERBS)} until it was dark.'
    )


def storm(draw: Draw, name: str, other: str) -> str:
    """Bad weather, and a friend's door."""
    place, food = draw.choose(PLACES), draw.choose(FOODS)
    return (
        f"One {draw.choose(TIMES)} a big storm came over the {place}. The house of {name} was {draw.choose(('cold', 'small', 'old'))} "
        f"and dark. {name} ran to the house of {other}. "
        f'"May I come in?" asked {name}. "Of course," said {other}. "I have {a(draw.choose(THINGS))} and some {food}." '
        f"They ate the {food} and waited. In the morning the storm was over, and they {draw.choose(VERBS)} at the {place}."
    )


def filler(draw: Draw) -> str:
    """One sentence that says nothing about any key."""
    match draw.index(4):
        case 0:
            return f"The {draw.choose(MOODS)} {draw.choose(ANIMALS)} {draw.choose(VERBS)} at the {draw.choose(PLACES)}."
        case 1:
            return f"It was a {draw.choose(WEATHER)} {draw.choose(TIMES)} at the {draw.choose(PLACES)}."
        case 2:
            return f"There was {a(draw.choose(COLORS))} {draw.choose(THINGS)} in the {draw.choose(PLACES)}."
        case _:
            return f"The {draw.choose(ANIMALS)} had some {draw.choose(FOODS)} and {draw.choose(VERBS)}."
