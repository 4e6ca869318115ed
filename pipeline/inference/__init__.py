"""Read faces in photographs, folders and videos with an exported model: `Recogniser().predict("photo.jpg")`.

Nothing here imports PyTorch, MLflow or DVC: the extra `predict` is enough.
"""

from pipeline.inference.recogniser import Face, Recogniser

__all__ = ["Face", "Recogniser"]
