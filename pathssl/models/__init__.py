"""timm ViTs, the projection head, and weights in and out."""
