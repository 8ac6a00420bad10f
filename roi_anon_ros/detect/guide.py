"""A frozen person detector that a codec learns from: how differently does it see two images?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roi_anon_ros.detect.quiet_ultralytics import import_ultralytics
from roi_anon_ros.detect.weights import find_weights


class PersonGuide(nn.Module):
    """Distance between what a YOLO detector makes of a decoded image and of its original.

    With the features f of the detector's three scales, the probability p of a person and the
    distribution q of each side of the box at every anchor, hats marking the decoded image:

        Σ_scales ‖k (f̂ − f)‖² / ‖k f‖²
            +  (Σ_anchors KL(p ‖ p̂) + p · mean_sides KL(q ‖ q̂)) / (Σ_anchors p + B)

    k leaves out the features of what shall not be shown, B is the number of images. The weights
    stay as they are; the gradient reaches the decoded image.

    weights: a name that `find_weights` knows, or a path to a YOLOv8 .pt file.

    Raises ImportError without ultralytics, WeightsError where weights cannot be had, ValueError for
    weights without persons or of another kind.
    """

    def __init__(self, weights: str = "yolov8n") -> None:
        """Load the weights."""
        super().__init__()
        path = find_weights(weights)
        if path.suffix.lower() != ".pt":
            raise ValueError(
                f"weights: {path}, must be a .pt file: an exported network passes no gradient"
            )
        network = import_ultralytics().YOLO(str(path)).model.float().fuse(verbose=False)
        head = network.model[-1]
        if not hasattr(head, "cv2") or not hasattr(head, "cv3"):
            raise ValueError(f"weights: {path} gives no boxes")
        persons = [i for i, name in network.names.items() if name == "person"]
        if not persons:
            raise ValueError(f"weights: {path} knows no class 'person'")
        self._person = persons[0]
        # The head's own forward turns its maps into boxes; here the maps themselves are wanted.
        head.forward = lambda features: [
            (f, sides(f), scores(f))
            for f, sides, scores in zip(features, head.cv2, head.cv3, strict=True)
        ]
        self._network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> PersonGuide:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, x_hat: Tensor, x: Tensor, keep: Tensor) -> Tensor:
        """Return the distance, a scalar of 0 or more.

        x_hat, x: [B, 3, H, W] in [0, 1], RGB; H and W multiples of 32.
        keep: [B, 1, H, W], 1 where the images shall look alike, 0 where not.
        """
        with torch.no_grad():
            original = self._network(x)
        decoded = self._network(x_hat)
        features = x.new_zeros(())
        detections = x.new_zeros(())
        persons = float(len(x))
        for (f_hat, sides_hat, scores_hat), (f, sides, scores) in zip(
            decoded, original, strict=True
        ):
            f_hat = f_hat.float()
            f = f.float()
            k = F.adaptive_avg_pool2d(keep, f.shape[-2:])
            features = features + (k * (f_hat - f).square()).sum() / (k * f.square()).sum().clamp(
                min=1e-6
            )
            logit, logit_hat = (s[:, self._person].float() for s in (scores, scores_hat))
            p = logit.sigmoid()
            classes = F.binary_cross_entropy_with_logits(logit_hat, p, reduction="none")
            classes = classes - F.binary_cross_entropy_with_logits(logit, p, reduction="none")
            q, q_hat = (s.float().unflatten(1, (4, -1)).log_softmax(2) for s in (sides, sides_hat))
            boxes = (q.exp() * (q - q_hat)).sum(2).mean(1)
            detections = detections + (classes + p * boxes).sum()
            persons = persons + p.sum()
        return features + detections / persons
