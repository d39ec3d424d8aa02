"""Measuring edits: metrics for pairs with a known target, and a benchmark on held-out samples of the world."""

from .beyond import list_photographs, measure_drawn, measure_outside, measure_photographs
from .metrics import EditScore, UneditedScore, edited_region, psnr, score_edit, score_unedited
from .report import Medium, Report, SuccessRate, SummaryLine
from .world_benchmark import evaluate

__all__ = [
    "EditScore",
    "Medium",
    "Report",
    "SuccessRate",
    "SummaryLine",
    "UneditedScore",
    "edited_region",
    "evaluate",
    "list_photographs",
    "measure_drawn",
    "measure_outside",
    "measure_photographs",
    "psnr",
    "score_edit",
    "score_unedited",
]
