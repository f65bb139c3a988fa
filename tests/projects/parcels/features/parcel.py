"""What the parcel alone says."""

FEATURES = ("weight", "express")


def compute(columns):
    return {"weight": columns["weight"], "express": columns["express"]}
