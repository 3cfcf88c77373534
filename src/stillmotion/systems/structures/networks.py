"""The networks of a model, and the one forward pass of its forecasts.

The paper's forecasting network is in forecasting.py, ours in fields.py, the refinement network in refinement.py.
"""

from __future__ import annotations

from torch import Tensor, nn

from stillmotion.systems.structures.config import StructuresConfig
from stillmotion.systems.structures.fields import FieldForecast
from stillmotion.systems.structures.forecasting import ForecastNetwork, ForecastOutput, PosePredictor
from stillmotion.systems.structures.refinement import RefinementNetwork, clip_context


class StructuresNetworks(nn.Module):
    """What animating needs: G_M, and where the configuration has them G_R and the pose predictor.

    The stages that train critics build them.
    """

    def __init__(self, config: StructuresConfig):
        super().__init__()
        self.forecast = FieldForecast(config) if config.forecast.fields else ForecastNetwork(config)
        self.refinement = RefinementNetwork(config) if config.refinement.enabled else None
        self.predictor = PosePredictor(config.pose) if config.pose_prediction.steps > 0 else None


def predict(
    network: ForecastNetwork | FieldForecast,
    still: Tensor,
    structure: Tensor,
    targets: Tensor,
    coarse: Tensor | None = None,
    plate: Tensor | None = None,
) -> ForecastOutput:
    """T frames of each of N stills, by either network; what the paper's does not know it does not get.

    Args:
        network: the paper's, or ours.
        still: N x 3 x S x S in [-1, 1].
        structure: N x C x S x S.
        targets: NT x C x S x S.
        coarse: NT x S x S x 3, or N x T x S x S x 3 (with openings 9); ours needs it.
        plate: N x 4 x S x S, of ours.
    """
    if isinstance(network, FieldForecast):
        assert coarse is not None
        return network.decode(network.encode(still, structure, plate), targets, coarse.flatten(0, -4))
    made: ForecastOutput = network(still, structure, targets)
    return made


def refinement_inputs(
    network: ForecastNetwork | FieldForecast,
    still: Tensor,
    maps: Tensor,
    coarse: Tensor | None,
    plate: Tensor | None,
    config: StructuresConfig,
) -> tuple[Tensor, ...]:
    """Forecasts of one clip as G_R takes them: 1 x T x ... each, the frames first.

    Args:
        network: G_M, in eval mode.
        still: 1 x 3 x S x S in [-1, 1].
        maps: (1 + T) x C x S x S, the still's structure map first.
        coarse: see `predict`.
        plate: see `predict`.
        config: of the system.
    """
    made = predict(network, still, maps[:1], maps[1:], coarse, plate)
    given = made.frame[None], maps[None, 1:]
    if not config.refinement.context:
        return given
    assert made.fields is not None
    return *given, clip_context(still, made.fields.shares[None])
