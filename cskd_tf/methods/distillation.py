"""Knowledge distillation from a trained teacher (Hinton et al., 2015, https://arxiv.org/abs/1503.02531)."""

from cskd_tf.checks import check_fraction, check_number
from cskd_tf.losses import kl_divergence
from cskd_tf.methods.base import Method
from cskd_tf.methods.teacher import Teacher


class Distillation(Method):
    """Pulls the prediction towards that of a trained network for the same image.

    The loss becomes `(1 - alpha) * CE + alpha * T^2 * KL( softmax(z_teacher / T) || softmax(z / T) )` (section 2 of the
    paper), of logits `[B, C]`, in nats per image. The teacher sees the images `[B, H, W, C]` that the student sees,
    runs at inference and is never changed.

    Example, of teacher's logits `[4 ln 3, 0]`, softened `[.75, .25]`, against `[0, 0]`: `.9 * 16 * 0.130812`:
        >>> teacher = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
        >>> method = Distillation(teacher=teacher, alpha=0.9, temperature=4.0)
        >>> batch = {"image": tf.constant([[4 * math.log(3), 0.0]])}
        >>> outputs = {"image": {"logits": tf.constant([[0.0, 0.0]])}}
        >>> round(float(method.terms(batch, outputs, None)["distillation"][0]), 5)
        1.88369

    Args:
        teacher: a Keras model from images to logits, or its `.keras` file; in a config the workdir of a run too.
        alpha: share of the teacher, in [0, 1]. 0.9 and T = 4 are common; the CS-KD paper states none.
        temperature: T, above 0.

    Raises:
        UserError: an argument out of range, or a teacher that cannot be read or, when the model is built, has other
            classes or takes other images.
    """

    term_names = ("distillation",)

    def __init__(self, *, teacher, alpha: float = 0.9, temperature: float = 4.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = check_fraction("alpha", alpha, one=True)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.hard_weight = 1 - self.alpha
        self._teacher = Teacher(teacher)

    def get_config(self):
        # Keras keeps what a layer was made of by itself, but not a path, and of a model no weights.
        arguments = {key: getattr(self, key) for key in ("alpha", "temperature")}
        return {"name": self.name, "teacher": self._teacher.name(), **arguments}

    @property
    def untracked_variables(self):
        return self._teacher.network.variables

    def attach(self, network, *, parts, num_examples=None):
        self._teacher.check(network, parts=parts)

    def terms(self, batch, outputs, targets):
        divergence = kl_divergence(
            self._teacher(batch["image"]), outputs["image"]["logits"], temperature=self.temperature
        )
        return {"distillation": self.alpha * self.temperature**2 * divergence}
