"""An opponent inside the training: a second decoder that tries to show the heads that the codec
hides.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.func import functional_call

from roi_anon_ros.train.losses import Regions, region_weights


class Adversary(nn.Module):
    """A synthesis transform ``D`` of its own, trained against the analysis transform.

    With the error averaged over the head boxes as in the ROI loss, from latents ŷ, images x and
    the target t that hides their heads:

        attack(D)        = error(D(ŷ), x)    teaches D alone to bring the heads back
        defence(codec)   = error(D(ŷ), t)    teaches the codec alone to leave D only the target

    Both are bounded, and one backward pass serves both: the latent is detached in the first, D in
    the second.

    Args:
        synthesis: the codec's, which D starts from as a copy.
    """

    def __init__(self, synthesis: nn.Module) -> None:
        super().__init__()
        self.synthesis = copy.deepcopy(synthesis)

    def forward(
        self, y_hat: Tensor, x: Tensor, target: Tensor, heads: Regions
    ) -> tuple[Tensor, Tensor]:
        """Attack and defence, two scalars.

        Args:
            y_hat: ``[B, N, h, w]``, with the codec's gradient.
            x: ``[B, 3, H, W]`` in [0, 1].
            target: ``[B, 3, H, W]``, see :func:`~roi_anon_ros.train.losses.hidden_target`.
            heads: the boxes to hide.
        """
        height, width = x.shape[-2:]
        weights = region_weights(heads, x)

        def error(shown: Tensor, wanted: Tensor) -> Tensor:
            return (
                (shown.float()[..., :height, :width] - wanted).square().mean(1, keepdim=True)
                * weights
            ).sum()

        frozen = {name: value.detach() for name, value in self.synthesis.named_parameters()}
        attack = error(self.synthesis(y_hat.detach()), x)
        return attack, error(functional_call(self.synthesis, frozen, (y_hat,)), target)
