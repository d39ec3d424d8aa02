"""InstructX Tiny's training: adds the stages that only a model trained from scratch needs to the trainer's own."""

from .tasks import add_stages

add_stages()
