"""InsightEdit Tiny's training: substitutes for pre-trained parts, then the paper's three stages."""

from .tasks import add_stages

add_stages()
