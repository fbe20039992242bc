"""How pictures of another shape come to a world's size. Nothing large is imported here: command lines ask early."""

from typing import Literal

Fit = Literal["stretch", "pad", "crop"]
"""What is done about another aspect: stretch the picture, pad it with black, or crop it."""
WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The region that is all of a picture: left, top, right and bottom, as shares of its width and height."""
