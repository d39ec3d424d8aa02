"""Measuring edits: metrics for pairs with a known target, and a benchmark on held-out samples of the world."""

from .beyond import list_photographs, measure_drawn, measure_outside, measure_photographs
from .metrics import EditScore, UneditedScore, edited_region, psnr, score_edit, score_unedited
from .preservation import Preservation, difference_picture, find_region, measure, smoothness
from .report import Medium, Report, SuccessRate, SummaryLine
from .world_benchmark import evaluate, without_references

__all__ = [
    "EditScore",
    "Medium",
    "Preservation",
    "Report",
    "SuccessRate",
    "SummaryLine",
    "UneditedScore",
    "difference_picture",
    "edited_region",
    "evaluate",
    "find_region",
    "list_photographs",
    "measure",
    "measure_drawn",
    "measure_outside",
    "measure_photographs",
    "psnr",
    "score_edit",
    "score_unedited",
    "smoothness",
    "without_references",
]
