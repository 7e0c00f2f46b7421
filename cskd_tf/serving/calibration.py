"""What is fitted on validation images and served with a network: a temperature, and sets that hold the class."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.conformal import fewest, quantile
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scaling import TemperatureScaling
from cskd_tf.evaluation.scores import softmax

TEMPERATURE, SETS = "temperature", "conformal_set"  # what can be left out
ROUNDING = 9e-7  # relative, of a softmax in float32
# Of a temperature. A number fitted on N images costs 1 / 2N nats of NLL on average (Akaike, 1974), so 0.025 of so many:
# little beside what it mends in most networks; docs/serving.md has the arithmetic.
FEWEST = 20


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What changes logits into what is served.

    Attributes:
        temperature: logits are divided by it before they become probabilities (Guo et al., 2017); None: they are not.
        threshold: the least probability, before the temperature, of a class in an image's conformal set (Sadinle et
            al., 2019); None: there are no sets.
        coverage: the share of images like the validation images whose set holds their class.
        left_out: why there is no temperature or no set although there was to be one, by `TEMPERATURE` and `SETS`.
    """

    temperature: float | None = None
    threshold: float | None = None
    coverage: float | None = None
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        validation: Predictions | None,
        *,
        temperature: bool,
        coverage: float,
        why_no_validation: str = "no validation images were given",
    ) -> "Calibration":
        """Fits what is asked for.

        The sets are those of the probabilities before the temperature: what they promise would not hold strictly, had
        the temperature been fitted on the same images before.

        Example:
            Three of four images like this one are of class 0, which needs half the logits; and in nine of ten such
            draws a class of a probability of .1 at least is the label.

            >>> logits, labels = np.array([[2 * math.log(3), 0.0]] * 20), np.array([0, 0, 0, 1] * 5)
            >>> fitted = Calibration.fit(Predictions(logits, labels), temperature=True, coverage=0.9)
            >>> round(fitted.temperature, 6), round(fitted.threshold, 6), fitted.coverage
            (2.0, 0.1, 0.9)

        Args:
            validation: predictions of images that the network was not trained on; None: nothing can be fitted.
            temperature: whether to fit one.
            coverage: of the sets, at least 0 and below 1; 0: no sets.
            why_no_validation: what is said where there are no validation images.

        Raises:
            UserError: a coverage out of range.
        """
        if not 0 <= coverage < 1:
            raise UserError(f"Expected a coverage of at least 0, for no sets, and below 1. Received: {coverage=}")
        asked = [name for name, wanted in ((TEMPERATURE, temperature), (SETS, coverage > 0)) if wanted]
        if validation is None:
            return cls(left_out=dict.fromkeys(asked, why_no_validation))
        fitted, threshold, left_out = None, None, {}
        if TEMPERATURE in asked and len(validation.labels) < FEWEST:
            left_out[TEMPERATURE] = (
                f"Expected at least {FEWEST} validation images for a temperature. Received: {len(validation.labels)}"
            )
        elif TEMPERATURE in asked:
            try:
                fitted = TemperatureScaling.fit(validation.logits, validation.labels).temperature
            except UserError as error:
                left_out[TEMPERATURE] = str(error)
        if SETS in asked:
            alpha = 1 - coverage
            # As of `ConformalSets`, but of p and not of 1 - p, of which nothing would be left where p is small.
            own = softmax(validation.logits)[np.arange(len(validation.labels)), validation.labels]
            least = -quantile(-own, alpha)
            # A little lower, or the rounding of served float32 probabilities would take classes out of sets: it grows
            # with the logarithm, since it is the logits that are rounded.
            threshold = float(np.float32(least * (1 - ROUNDING * (1 - math.log(max(least, 1e-300))))))
            if math.isinf(least):
                left_out[SETS] = (
                    f"Expected at least {fewest(alpha)} validation images for a coverage of {coverage:g}. "
                    f"Received: {len(validation.labels)}"
                )
                threshold = None
        return cls(fitted, threshold, None if threshold is None else coverage, left_out)
