"""Motion generator M and sequence discriminator, from the whole down to the parts (Sec. 2, Fig. 4).

Shapes: N sequences of T frames, K keypoints, Z numbers in a latent z. Coordinates are normalised, (x, y), corners
aligned; the first frame, the still's, is no part of a sequence. Actions are indices of `ActionsConfig.actions`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.systems.actions.config import ActionsConfig, MotionConfig


class MotionOutput(NamedTuple):
    """A reconstructed sequence, and the posterior that its latent was drawn from."""

    sequence: Tensor  # N x T x K x 2 in (-1, 1)
    mean: Tensor  # N x Z
    std: Tensor  # N x Z, not negative


class MotionGenerator(nn.Module):
    """M: a conditional variational auto-encoder over sequences of keypoints, with LSTMs on both sides.

    Conditions are the still's keypoints and, if the configuration has classes, the action.
    """

    def __init__(self, config: ActionsConfig):
        super().__init__()
        self.config = config
        self.encoder = MotionEncoder(config)
        self.decoder = MotionDecoder(config)

    def forward(self, initial: Tensor, future: Tensor, action: Tensor | None, noise: Tensor) -> MotionOutput:
        """Encode sequences, draw latents from the posterior, decode them.

        Args:
            initial: N x K x 2, the still's.
            future: N x T x K x 2, of the frames after it.
            action: N, `int64`; None without classes.
            noise: N x Z, standard normal.
        """
        condition = self.condition(initial, action)
        mean, std = self.encoder(future, condition)
        return MotionOutput(self.decoder(mean + std * noise, condition, self.config.motion.frames), mean, std)

    def sample(
        self, initial: Tensor, action: Tensor | None, latent: Tensor | torch.Generator, frames: int | None = None
    ) -> Tensor:
        """Generate sequences from the prior N(0, I).

        Args:
            initial: N x K x 2.
            action: N, `int64`; None without classes.
            latent: z, N x Z, or the CPU generator that it is drawn from.
            frames: how many; None for those of the configuration.

        Returns:
            N x frames x K x 2 in (-1, 1), absolute coordinates.
        """
        if isinstance(latent, torch.Generator):
            drawn = torch.randn(len(initial), self.config.motion.latent, generator=latent)
            latent = drawn.to(initial.device, initial.dtype)
        condition = self.condition(initial, action)
        sequence: Tensor = self.decoder(latent, condition, frames or self.config.motion.frames)
        return sequence

    def condition(self, initial: Tensor, action: Tensor | None) -> Tensor:
        """The still's keypoints and the one-hot action as one vector; N x (2K + classes)."""
        classes = self.config.classes
        if (action is None) != (classes == 0):
            raise ValueError("an action is given if and only if the configuration has classes")
        if action is None:
            return initial.flatten(1)
        return torch.cat([initial.flatten(1), F.one_hot(action, classes).to(initial.dtype)], dim=1)


class MotionEncoder(nn.Module):
    """Mean and standard deviation of q(z | future, initial, action)."""

    def __init__(self, config: ActionsConfig):
        super().__init__()
        self.mode, motion = config.motion.mode, config.motion
        self.lstm = LSTM(2 * config.points, motion)
        self.posterior = linear(motion.hidden + condition_width(config), 2 * motion.latent)

    def forward(self, future: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """N x T x K x 2 and N x (2K + classes) to N x Z twice; the release has no exponential."""
        last = self.lstm(future.flatten(2))[:, -1]
        mean, std = self.posterior(torch.cat([last, condition], dim=1)).float().chunk(2, dim=1)
        return (F.relu(mean), F.relu(std)) if self.mode == "released" else (mean, F.softplus(std))


class MotionDecoder(nn.Module):
    """p(future | z, initial, action): the input stands at the first step alone, zeros at the others (release)."""

    def __init__(self, config: ActionsConfig):
        super().__init__()
        motion = config.motion
        self.mode, self.input_every_step = motion.mode, motion.input_every_step
        self.input = linear(motion.latent + condition_width(config), motion.input_width)
        self.lstm = LSTM(motion.input_width, motion)
        self.output = linear(motion.hidden, 2 * config.points)
        nn.init.normal_(self.output.weight, std=0.02)

    def forward(self, latent: Tensor, condition: Tensor, frames: int) -> Tensor:
        """N x Z and N x (2K + classes) to N x frames x K x 2 in (-1, 1)."""
        first = self.input(torch.cat([latent, condition], dim=1))
        first = F.relu(first) if self.mode == "released" else first
        inputs = first[:, None].expand(-1, frames, -1)
        if not self.input_every_step:
            inputs = F.pad(first[:, None], (0, 0, 0, frames - 1))
        return torch.tanh(self.output(self.lstm(inputs)).float()).unflatten(2, (-1, 2))


class SequenceDiscriminator(nn.Module):
    """D_seq: whether a sequence is one of real keypoints; it sees neither the still nor the action."""

    def __init__(self, config: ActionsConfig):
        super().__init__()
        self.mode = config.motion.mode
        self.lstm = LSTM(2 * config.points, config.motion)
        self.score = linear(config.motion.hidden, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """N x T x K x 2 -> logits N x 1; with mode `released` none is negative, so no fake scores below one half."""
        logits: Tensor = self.score(self.lstm(sequence.flatten(2))[:, -1])
        return F.relu(logits) if self.mode == "released" else logits


class LSTM(nn.LSTM):
    """Layers of LSTM cells from a zero state; Glorot uniform weights and zero biases, and 1 on the forget gate.

    Torch has two biases per layer where TensorFlow has one: the second is constant here, the 1 on the forget gate. So
    there are as many trainable parameters as in the release.
    """

    def __init__(self, inputs: int, config: MotionConfig):
        super().__init__(inputs, config.hidden, config.layers, batch_first=True)
        hidden = config.hidden
        for name, value in self.named_parameters():
            if name.startswith("weight"):
                # Of TensorFlow's one matrix per layer: all inputs, the hidden state among them, and all gates.
                bound = (6 / (sum(self._widths(name)) + 4 * hidden)) ** 0.5
                nn.init.uniform_(value, -bound, bound)
            else:
                nn.init.zeros_(value)
            if name.startswith("bias_hh"):
                nn.init.ones_(value.data[hidden : 2 * hidden])
                value.requires_grad_(False)

    def _widths(self, name: str) -> tuple[int, int]:
        return (self.input_size if name.endswith("l0") else self.hidden_size), self.hidden_size

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        """N x T x inputs -> the outputs of the last layer, N x T x hidden."""
        outputs: Tensor = super().forward(inputs)[0]
        return outputs


def condition_width(config: ActionsConfig) -> int:
    """Numbers of a condition: the still's keypoints, and one per class."""
    return 2 * config.points + config.classes


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with Xavier uniform weights and zero biases (release)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


# --- the release's variables ----------------------------------------------------------------------------------------
_NETWORKS = {"vae_encoder": "motion.encoder", "vae_decoder": "motion.decoder", "seq_discr": "sequence_discriminator"}
_LAYERS = {
    "vae_encoder/fully_connected/weights": "posterior.weight",
    "vae_encoder/fully_connected/biases": "posterior.bias",
    "vae_decoder/fully_connected/weights": "input.weight",
    "vae_decoder/fully_connected/biases": "input.bias",
    "vae_decoder/fully_connected/W": "output.weight",
    "vae_decoder/fully_connected/b": "output.bias",
    "seq_discr/fully_connected/weights": "score.weight",
    "seq_discr/fully_connected/biases": "score.bias",
}


def from_release(name: str, value: Tensor) -> dict[str, Tensor]:
    """A variable of the release's second stage as entries of `ActionsNetworks` and of `sequence_discriminator.*`.

    Args:
        name: e.g. `vae_encoder/rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel`.
        value: matrices in x out; of an LSTM the rows are the layer's input and its state, the columns the gates
            input, candidate, forget, output. Biases without the 1 on the forget gate, which the code adds.
    """
    ours = _NETWORKS[name.split("/")[0]]
    if name in _LAYERS:
        return {f"{ours}.{_LAYERS[name]}": value.mT.contiguous() if value.dim() == 2 else value}
    layer = name.rpartition("/cell_")[2].split("/")[0]
    entry, candidate, forget, output = value.chunk(4, dim=-1)
    value = torch.cat([entry, forget, candidate, output], dim=-1)
    if name.endswith("bias"):
        hidden = len(entry)
        constant = torch.zeros_like(value)
        constant[hidden : 2 * hidden] = 1
        return {f"{ours}.lstm.bias_ih_l{layer}": value, f"{ours}.lstm.bias_hh_l{layer}": constant}
    rows = len(value) - entry.shape[1]
    return {
        f"{ours}.lstm.weight_ih_l{layer}": value[:rows].mT.contiguous(),
        f"{ours}.lstm.weight_hh_l{layer}": value[rows:].mT.contiguous(),
    }
