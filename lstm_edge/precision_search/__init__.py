"""The smallest quantized file that keeps a metric within a budget: sensitivity, search, verification, report."""

from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.report import BudgetReport
from lstm_edge.precision_search.request import BudgetRequest
from lstm_edge.precision_search.smallest import quantize_to_budget

__all__ = ["BudgetReport", "BudgetRequest", "Evaluation", "quantize_to_budget"]
