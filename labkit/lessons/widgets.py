"""The form of a prediction in a browser."""
from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from labkit.lessons.card import Card
from labkit.lessons.outcome import OPEN

if TYPE_CHECKING:
    from labkit.lessons.predict import Prediction


def ask(prediction: Prediction) -> widgets.Widget:
    """Question, field or options, button, and a place for the answer. Enter submits too."""
    question = widgets.HTML(Card(OPEN, f"Predict: {prediction.question}").html())
    feedback = widgets.HTML()
    if prediction.options:
        field = widgets.RadioButtons(options=prediction.options, value=None, layout=widgets.Layout(width="auto"))
    else:
        hint = f"a number, in {prediction.unit}" if prediction.unit else "a number"
        field = widgets.Text(placeholder=hint, continuous_update=False, layout=widgets.Layout(width="16em"))
    button = widgets.Button(description="Predict", tooltip="Commit to this answer")

    def submit(_: object) -> None:
        if field.value:
            feedback.value = prediction.submit(field.value).html()

    button.on_click(submit)
    if not prediction.options:
        field.observe(submit, names="value")  # sent by Enter, and on leaving the field
    row = widgets.VBox([field, button]) if prediction.options else widgets.HBox([field, button])
    return widgets.VBox([question, row, feedback])
