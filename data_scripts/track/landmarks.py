"""MediaPipe's 478 points: which are what, how much each is trusted, and where the 68 iBUG points are among them."""

import numpy as np
import torch

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
LIPS_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
EYE_RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)  # the subject's right
EYE_LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
IRIS = tuple(range(468, 478))  # right eye first, the middle of each before its rim

LIDS = ((159, 145), (158, 153), (160, 144), (386, 374), (385, 380), (387, 373))  # upper, lower; right eye first
LIPS = ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318))  # upper, lower
PAIRS = torch.tensor(LIDS + LIPS)  # [P, 2] openings that must be right whatever else is not

WEIGHTS = torch.ones(478)
WEIGHTS[list(OVAL)] = 0.6  # the detector slides these along the silhouette
WEIGHTS[list(LIPS_OUTER)] = 2.0
WEIGHTS[list(LIPS_INNER)] = 3.0
WEIGHTS[list(EYE_RIGHT + EYE_LEFT)] = 3.0
WEIGHTS[list(IRIS)] = 3.0

# The iBUG points in their order: jaw line, brows, nose, eyes, lips.
IBUG = np.array([
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
])  # fmt: skip
GROUPS = {  # of the iBUG points, for the report
    "jaw line": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "lips": slice(48, 68),
}
