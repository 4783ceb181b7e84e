"""What breaks a segmentation: corruptions, textures, windows, attacks; and baselines that learn nothing."""
