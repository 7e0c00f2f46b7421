"""TF-KD, teacher-free knowledge distillation (Yuan et al., CVPR 2020, https://arxiv.org/abs/1909.11723)."""

import tensorflow as tf

from cskd_tf.checks import check_fraction, check_number, check_option
from cskd_tf.losses import kl_divergence, one_hot
from cskd_tf.methods.base import Method
from cskd_tf.methods.teacher import Teacher


class TFKD(Method):
    """Distils from a trained copy of the network itself (self), or from a virtual teacher (reg, without `teacher`).

    The loss becomes `(1 - alpha) * CE + alpha * KL( softmax(u / T) || softmax(z / T) )` (equations 9 and 10 of the
    paper, which write no factor T^2). In the self form `u` are the teacher's logits; in the reg form the logarithms of
    a virtual teacher's probabilities, `correct` on the true class and `(1 - correct) / (C - 1)` on each other. Logits
    and probabilities are `[B, C]`, the loss is in nats per image.

    With `form="public"`, as the authors' code: the divergence is divided by the number of classes (`KLDivLoss`'s mean)
    and multiplied by `multiplier`, in the self form by T^2 too; and the reg form takes the softmax of the virtual
    probabilities themselves, nearly uniform at T = 20, against the student at T = 1. The virtual teacher knows the
    labels before other methods smooth or refine them, those of mixed images as class weights weigh them.

    Example of the reg form, two classes: logits (0, 0) and label 0 give `.5 * KL((.9, .1) || (.5, .5))`:
        >>> method = TFKD(alpha=0.5, temperature=1.0, correct=0.9)
        >>> outputs = {"image": {"logits": tf.constant([[0.0, 0.0]])}}
        >>> round(float(method.terms({"label": tf.constant([0])}, outputs, None)["teacher_free"][0]), 6)
        0.184032

    Args:
        teacher: a Keras model from images to logits, or its `.keras` file; in a config the workdir of a run too;
            None for the virtual one.
        alpha: share of the teacher, in [0, 1]; None: .1 for the virtual one and .9 for a trained one, as in the paper
            for DenseNet-121 and ResNeXt-29 (ResNet-18: .95).
        temperature: T, above 0: 6 and 20 in the self form, 20 in the reg form (in the authors' recipes of DenseNet-121
            and ResNeXt-29 40, the latter with an alpha of .5).
        correct: probability that the virtual teacher gives to the true class, in (0, 1).
        form: `"paper"` or `"public"`.
        multiplier: of the public form, 50 or 100 in its authors' recipes.

    Raises:
        UserError: an argument out of range, or a teacher as for `Distillation`.
    """

    term_names = ("teacher_free",)

    def __init__(
        self,
        *,
        teacher=None,
        alpha: float | None = None,
        temperature: float = 20.0,
        correct: float = 0.99,
        form: str = "paper",
        multiplier: float = 100.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        default = 0.1 if teacher is None else 0.9
        self.alpha = check_fraction("alpha", default if alpha is None else alpha, one=True)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.correct = check_fraction("correct", correct, zero=False)
        self.form = check_option("form", form, ("paper", "public"))
        self.multiplier = check_number("multiplier", multiplier, positive=True)
        self.hard_weight = 1 - self.alpha
        self._teacher = None if teacher is None else Teacher(teacher)

    def get_config(self):
        # Keras keeps what a layer was made of by itself, but not a path, and of a model no weights.
        arguments = {key: getattr(self, key) for key in ("alpha", "temperature", "correct", "form", "multiplier")}
        return {"name": self.name, "teacher": None if self._teacher is None else self._teacher.name(), **arguments}

    @property
    def untracked_variables(self):
        return () if self._teacher is None else self._teacher.network.variables

    def attach(self, network, *, parts, num_examples=None):
        if self._teacher is not None:
            self._teacher.check(network, parts=parts)

    def terms(self, batch, outputs, targets):
        logits = outputs["image"]["logits"]
        public, classes = self.form == "public", logits.shape[-1]
        if self._teacher is not None:
            divergence = kl_divergence(self._teacher(batch["image"]), logits, temperature=self.temperature)
            divergence *= self.temperature**2 if public else 1.0
        elif public:
            divergence = kl_divergence(self._virtual(batch, classes) / self.temperature, logits)
        else:
            divergence = kl_divergence(tf.math.log(self._virtual(batch, classes)), logits, temperature=self.temperature)
        return {"teacher_free": self.alpha * divergence * (self.multiplier / classes if public else 1.0)}

    def _virtual(self, batch, classes: int):
        """The virtual teacher's probabilities `[B, C]`."""
        labels = batch["targets"] if "targets" in batch else one_hot(batch["label"], num_classes=classes)
        return labels * self.correct + (1 - labels) * (1 - self.correct) / (classes - 1)
