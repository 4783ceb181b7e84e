"""What breaks a segmentation: corruptions of the images."""
