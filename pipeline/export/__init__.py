"""Write trained networks as ONNX files that need nothing of this project to run."""
