"""What the order alone says."""

import numpy as np

FEATURES = ("log_quantity", "express", "weekend", "has_note")

DAY = np.int64(86_400_000_000)


def compute(columns):
    day = columns["at"].astype(np.int64) // DAY
    return {
        "log_quantity": np.log(columns["quantity"]),
        "express": columns["express"],
        "weekend": (day + 3) % 7 >= 5,
        "has_note": columns["note"] != "",
    }
