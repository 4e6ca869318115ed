"""Quantise an exported model to 8-bit integers, calibrated on faces of Training."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.files import replacing
from pipeline.inference.model_file import INPUT

CALIBRATION = 2048
"""Faces of Training that the ranges of the activations come from."""
BATCH = 64
"""Faces per step of the calibration."""
OPERATORS = ("Conv", "MaxPool", "Gemm")
"""What is computed in integers: nearly all operations. Standardisation, GELU and softmax stay in floating point."""


def quantise(file: Path, faces: npt.NDArray[np.uint8], target: Path) -> None:
    """Write a copy of an exported model whose convolutions compute in 8 bits.

    Static quantisation: weights by channel, symmetric, in 7 of the 8 bits, because processors without VNNI add pairs of
    products in 16 bits, which 8 could overflow; activations by tensor, their range the smallest and largest value over
    the faces, uint8 [N, 48, 48]. The facts in its metadata stay.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Faces(CalibrationDataReader):  # type: ignore[misc]
        """Batches of faces, as ONNX Runtime asks for them."""

        def __init__(self) -> None:
            self.batches: Iterator[npt.NDArray[np.uint8]] = (
                faces[start : start + BATCH] for start in range(0, len(faces), BATCH)
            )

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # that the quantisation could be prepared
    try:
        with replacing(target) as temporary:
            quantize_static(
                file,
                temporary,
                Faces(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logging.disable(disabled)
