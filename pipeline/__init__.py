"""Facial expression recognition with losses on label words: the library behind the stages."""
