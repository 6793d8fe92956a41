"""Recipes of published recurrent models: where each comes from, its digests and licence, and how it is adopted."""

from lstm_edge.zoo.recipe import Recipe, parse_recipe, read_recipe, recipes

__all__ = ["Recipe", "parse_recipe", "read_recipe", "recipes"]
