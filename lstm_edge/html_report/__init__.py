"""The report of a quantization to a budget as one HTML file: text, tables and drawings, without scripts.

The page loads nothing: drawings (SVG) and style are inside the page, and its Content-Security-Policy forbids the rest.
"""

from lstm_edge.html_report.page import render_report

__all__ = ["render_report"]
