"""Landmarks: 68 points of each face in the order of iBUG 300-W, their shape, and the images with similar ones."""
