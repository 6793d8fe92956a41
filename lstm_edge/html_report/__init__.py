"""The report of a quantization to a budget as one HTML file: text, tables and drawings, and no script.

The page asks for nothing from anywhere: its drawings are SVG in the page, its style is in the page, and its
Content-Security-Policy forbids the rest.
"""

from lstm_edge.html_report.page import render_report

__all__ = ["render_report"]
