"""Weighted transformed teacher matching (WTTM)."""

from __future__ import annotations

from torch import Tensor, nn

from mmkdlayer.errors import ConfigError
from mmkdlayer.registry import MODELS

from .logits import full_precision_logits


@MODELS.register_module()
class WTTMLoss(nn.Module):
    """Matches the student, without a temperature, to powers of the teacher's probabilities.

    With the teacher's probabilities p, the student's q and the power gamma = 1 / temperature::

        U * KL(p_gamma || q),   U = sum over classes of p^gamma,   p_gamma = p^gamma / U

    of which the mean over images is taken: an image whose teacher is less sure (a larger U) counts more.
    From Zheng and Yang, *Knowledge Distillation Based on Transformed Teacher Matching*, ICLR 2024,
    section 4. It is added to cross entropy with weight 1.

    The authors choose gamma and the weight for each pair. Those that their code shows are of VGG-13 ->
    VGG-8 on CIFAR-100: gamma=0.2, loss_weight=4 beside CRD. U grows with the number of classes, most of
    all for a small gamma, so for ImageNet's 1000 both need other values.

    No labels are read. Half precision is computed in float32. Probabilities of zero add nothing; with a
    single class the loss is zero.

    Args:
        gamma: Power, above 0; 1 is the KL divergence.
        loss_weight: Weight of the loss.

    Raises:
        ConfigError: gamma is not above 0.
    """

    def __init__(self, gamma: float = 0.2, loss_weight: float = 1.0) -> None:
        super().__init__()
        if gamma <= 0:
            raise ConfigError(f'WTTMLoss: gamma must be above 0, such as 0.2, but got {gamma!r}.')
        self.gamma, self.loss_weight = gamma, loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            preds_S: Logits of the student, (N, C).
            preds_T: Logits of the teacher, (N, C); no gradient reaches them.

        Returns:
            A scalar, in float32 or better.

        Raises:
            ConfigError: The shapes differ.
        """
        student, teacher = full_precision_logits(type(self).__name__, preds_S, preds_T.detach())
        powers = (self.gamma * teacher.log_softmax(1)).exp()
        # p_gamma is softmax(gamma * logits), and U * p_gamma is p^gamma.
        log_ratio = (self.gamma * teacher).log_softmax(1) - student.log_softmax(1)
        return self.loss_weight * (powers * log_ratio).sum(1).mean()
