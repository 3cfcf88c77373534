"""The training loop, checkpoints and logging; knows no system."""

from stillmotion.training.checkpoint import stage_weights
from stillmotion.training.loop import fit
from stillmotion.training.settings import LoopSettings, Outcome
from stillmotion.training.stage import Stage, Update

__all__ = ["LoopSettings", "Outcome", "Stage", "Update", "fit", "stage_weights"]
