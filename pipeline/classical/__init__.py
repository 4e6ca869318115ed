"""Classifiers on hand-made features, without a network: distances of landmarks, gradients and local patterns."""
