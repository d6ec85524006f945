"""When training saves, evaluates and reads its losses. Without TensorFlow.

All of it depends on the number of the step alone, so that a continued run does the same.
"""

from __future__ import annotations

from bert_tf.run_config import TrainingConfig


class Schedule:
    """What is due after which step.

    Args:
      handed_on: steps are handed on to other devices, and reading their losses waits for those.
    """

    def __init__(self, config: TrainingConfig, handed_on: bool):
        self._config = config
        self._handed_on = handed_on

    def saves(self, step: int, last: int) -> bool:
        return step == last or step % self._config.save_checkpoints_steps == 0

    def evaluates(self, step: int, last: int) -> bool:
        """Every `--eval_steps`, and at the end; never if that is 0."""
        every = self._config.eval_steps
        return every > 0 and (step == last or step % every == 0)

    def end_of_call(self, step: int, last: int) -> int:
        """The step up to which one call of the graph goes: where something is due, at most."""
        config = self._config
        points = (config.steps_per_execution, config.save_checkpoints_steps, config.eval_steps)
        return min(last, *((step // n + 1) * n for n in points if n))

    def reads(self, step: int, last: int) -> bool:
        """Whether the losses are read after this step."""
        config = self._config
        points = [config.iterations_per_loop, config.save_checkpoints_steps, config.eval_steps]
        return not self._handed_on or step == last or any(n and step % n == 0 for n in points)
