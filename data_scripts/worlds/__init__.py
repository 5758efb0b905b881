"""Generated people on OpenHead, and the worlds of pictures that play the parts of the gated datasets."""
