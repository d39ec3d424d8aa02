"""InstructX Tiny's training: kinds of stage that only a model trained from nothing needs, beside the trainer's own."""

from .tasks import add_stages

add_stages()
