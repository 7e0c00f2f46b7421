"""What a method of any kind can work on, as it says of itself."""


class Ability:
    """Base of all methods.

    Attributes:
        per_position: whether it takes logits and targets of every position of a sequence too, `[B, L, C]`, and its
            terms are then `[B, L]`: `SelfDistiller(..., sequences=True)`.
        per_class: whether it takes logits and targets of every class by itself too, yes and no, `[B, C, 2]`, and its
            terms are then `[B, C]` or `[B]`: `SelfDistiller(..., multi_label=True)`. The logits are `(z, 0)`, whose
            softmax is `(sigmoid(z), 1 - sigmoid(z))`, so that a formula over the last axis becomes the sigmoid's.
        weighable: whether each of its terms is of the batch's own image, so that it counts as much as that image does
            where images or classes have weights. What a term compares the image with, such as the mean of a batch,
            is of all images alike.
    """

    per_position: bool = False
    per_class: bool = False
    weighable: bool = True
