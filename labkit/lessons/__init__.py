"""What notebooks use to teach: predictions, checks that diagnose, expected failures; and `labkit run`, which executes notebooks."""
from labkit.lessons.lesson import Lesson
from labkit.lessons.outcome import LessonError, Outcome

__all__ = ["Lesson", "LessonError", "Outcome"]
