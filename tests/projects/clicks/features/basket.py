"""What the visit alone says."""

import numpy as np

FEATURES = ("log_basket",)


def compute(columns):
    return {"log_basket": np.log1p(columns["basket"])}
