"""Validation: two models on one data set, compared by the task's metric with a budget."""
