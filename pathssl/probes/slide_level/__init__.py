"""Tasks whose samples are slides, each a bag of patches, and what learns from whole bags."""
