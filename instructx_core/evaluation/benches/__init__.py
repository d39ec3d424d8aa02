"""Published benchmarks, each a list of cases and a scoring rule; see `case.Bench`."""

from .case import Bench, Case, Columns
from .gedit import GEditBench
from .imgedit import ImgEditBench
from .openve import OPENVE, REFVIE
from .reasoning import AdvancedEditEval, ReasonEdit
from .vie import VieBench

BENCHES: dict[str, Bench] = {
    bench.name: bench
    for bench in (ImgEditBench(), GEditBench(), VieBench(), OPENVE, REFVIE, AdvancedEditEval(), ReasonEdit())
}

__all__ = ["BENCHES", "Bench", "Case", "Columns"]
