"""Measure what a teacher brings: Japanese Vowels and a short King James text, as Markdown.

    python benchmarks/distillation.py [vowels|text] [--seeds 5] [--temperature 2] [--alpha 0.5]

Every student is trained twice for each seed, without and with the teacher, with the same options: the library's
defaults, and for the text the ones below. Temperature and alpha are the library's defaults; they were not chosen by
these results. Test data are read once for each finished model, and no seed is left out. One thread; both together take
about fifteen minutes on a quiet machine.
"""

import argparse
import math
from dataclasses import dataclass

import numpy as np
from japanese_vowels_seeds import evaluate

from lstm_edge.data import load
from lstm_edge.data.text import load_text, split_text
from lstm_edge.data.vocabulary import build_vocabulary
from lstm_edge.training import Distillation, LanguageOptions, TrainingOptions, train_classifier, train_language_model
from lstm_edge.training.language import LanguageTask
from lstm_edge.training.models import ClassifierConfig, LanguageModelConfig

# Characters of the text: so few that a model meets each of them several times in a minute.
CHARACTERS = 400_000
EPOCHS = 10


@dataclass(frozen=True, kw_only=True)
class Student:
    """The size of a student, and the density of its recurrent layers."""

    hidden: int
    density: str | None = None

    @property
    def name(self) -> str:
        """Return the name in the tables."""
        return f"hidden {self.hidden}" + ("" if self.density is None else f", density {self.density}")


VOWELS_TEACHER, VOWELS = Student(hidden=128), (Student(hidden=8), Student(hidden=32, density="0.33"))
TEXT_TEACHER, TEXT = Student(hidden=256), (Student(hidden=64), Student(hidden=128, density="0.33"))


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description="what a teacher brings")
    parser.add_argument("part", nargs="?", choices=("vowels", "text"), help="one of the two; by default both")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, starting at 0")
    parser.add_argument("--temperature", type=float, default=Distillation.temperature)
    parser.add_argument("--alpha", type=float, default=Distillation.alpha)
    parser.add_argument("--epochs", type=int, help="epochs of every training; by default 80 and 10")
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="length of the text")
    arguments = parser.parse_args()
    for part in [arguments.part] if arguments.part else ["vowels", "text"]:
        {"vowels": vowels, "text": text}[part](arguments)


def vowels(arguments: argparse.Namespace) -> None:
    """Print the accuracies on the test split (370 utterances, one is 0.27 points)."""
    data, test = (load(f"japanese-vowels:{split}", default_split="train") for split in ("train", "test"))
    epochs = arguments.epochs or TrainingOptions.epochs

    def trained(student: Student, seed: int, distillation: Distillation | None = None):  # type: ignore[no-untyped-def]  # one of two modules
        config = ClassifierConfig.for_data(data, hidden=student.hidden)
        options = TrainingOptions(epochs=epochs, sparse=student.density)
        return train_classifier(data, config, options=options, seed=seed, distillation=distillation)[0]

    teacher = trained(VOWELS_TEACHER, 0)
    print(f"Japanese Vowels, {arguments.seeds} seeds, {epochs} epochs. Teacher: {VOWELS_TEACHER.name}, ", end="")
    print(f"test accuracy {evaluate(teacher, test):.2%}. {settings(arguments)}\n")
    header("test accuracy: mean (lowest to highest)")
    for student in VOWELS:
        lesson = Distillation(teacher=teacher, temperature=arguments.temperature, alpha=arguments.alpha)
        scores = [
            [evaluate(trained(student, seed, taught), test) for seed in range(arguments.seeds)]
            for taught in (None, lesson)
        ]
        plain, taught = (np.array(row) for row in scores)
        cells = (f"{row.mean():.2%} ({row.min():.2%} to {row.max():.2%})" for row in (plain, taught))
        gained = 100 * (taught - plain)
        print(f"| {student.name} | {' | '.join(cells)} | {gained.mean():+.2f} points {error(gained)} |", flush=True)


def text(arguments: argparse.Namespace) -> None:
    """Print the perplexities on the last 5 % of the text's first characters."""
    parts = split_text(load_text("king-james:train").text[: arguments.characters])
    vocabulary = build_vocabulary(parts[0], "character")
    train, held_out, test = (vocabulary.encode(part) for part in parts)
    epochs = arguments.epochs or EPOCHS

    def trained(student: Student, seed: int, distillation: Distillation | None = None):  # type: ignore[no-untyped-def]  # one of two modules
        config = LanguageModelConfig(tokens=len(vocabulary), hidden=student.hidden)
        options = LanguageOptions(epochs=epochs, batch_size=16, threads=1, sparse=student.density)
        model, _ = train_language_model(train, held_out, config, options=options, seed=seed, distillation=distillation)
        return model

    judge = LanguageTask(train, test, LanguageOptions())
    teacher = trained(TEXT_TEACHER, 0)
    print(f"\nThe first {arguments.characters:,} characters of the King James training text, {epochs} epochs, ", end="")
    print(f"batches of 16. Teacher: {TEXT_TEACHER.name}, ", end="")
    print(f"test perplexity {math.exp(judge.evaluate(teacher)[0]):.3f}. {settings(arguments)}\n")
    header("test perplexity: mean (lowest to highest)")
    for student in TEXT:
        lesson = Distillation(teacher=teacher, temperature=arguments.temperature, alpha=arguments.alpha)
        scores = [
            [math.exp(judge.evaluate(trained(student, seed, taught))[0]) for seed in range(arguments.seeds)]
            for taught in (None, lesson)
        ]
        plain, taught = (np.array(row) for row in scores)
        cells = (f"{row.mean():.3f} ({row.min():.3f} to {row.max():.3f})" for row in (plain, taught))
        gained = 100 * (taught / plain - 1)
        print(f"| {student.name} | {' | '.join(cells)} | {gained.mean():+.2f} % {error(gained)} |", flush=True)


def settings(arguments: argparse.Namespace) -> str:
    """Return the sentence about temperature and alpha."""
    return f"T = {arguments.temperature:g}, A = {arguments.alpha:g}."


def header(metric: str) -> None:
    """Print the head of a table."""
    print(f"| student | without a teacher, {metric} | with the teacher | change, and its standard error |")
    print("|---|---|---|---|")


def error(values: np.ndarray) -> str:
    """Return the standard error of the mean of paired differences; nothing for a single seed."""
    return "" if len(values) < 2 else f"(± {values.std(ddof=1) / math.sqrt(len(values)):.2f})"


if __name__ == "__main__":
    main()
