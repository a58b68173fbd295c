"""The words of the stories: few, common, and mostly one token each."""

from __future__ import annotations

NAMES = tuple(
    "Anna Ben Clara Dan Emma Finn Grace Hugo Iris Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Tom Uma Vera Will Zoe "
    "Adam Bella Carl Dora Eric Fay Gus Hana Ivan Jane Kurt Lucy Max Nina Otto Peter".split()
)
ANIMALS = tuple("fox bear cat dog duck frog goat hare horse lamb lion mouse owl pig rabbit sheep snail squirrel turtle wolf".split())
MOODS = tuple("happy brave clever curious gentle kind little lonely old proud quiet shy sleepy strong tiny young".split())
COLORS = tuple("black blue brown golden gray green orange pink purple red silver white yellow".split())
THINGS = tuple(
    "apple ball basket bell boat book bottle box bread cake candle coat cup drum feather flower flute hat key kite ladder lamp "
    "letter map mirror needle pearl pencil ribbon ring rope scarf shell shoe spoon star stone ticket wheel whistle".split()
)
PLACES = tuple(
    "barn beach bridge castle cave farm field forest garden harbor hill house island kitchen lake market meadow mill mountain "
    "river school station tower valley village well".split()
)
TIMES = tuple("morning evening night summer winter spring autumn Monday Sunday Friday".split())
WEATHER = tuple("cold warm windy rainy sunny foggy snowy cloudy".split())
VERBS = tuple("danced slept sang waited walked played worked rested jumped laughed".split())
FEELINGS = tuple("glad happy proud thankful surprised calm".split())
FOODS = tuple("bread soup cake cheese honey rice fish pie jam stew".split())

WORDS = tuple(dict.fromkeys(NAMES + ANIMALS + MOODS + COLORS + THINGS + PLACES + TIMES + WEATHER + VERBS + FEELINGS + FOODS))
