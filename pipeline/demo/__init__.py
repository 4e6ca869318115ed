"""Show what a model sees, on a page of this machine alone: `fer demo`. The extra `demo` is enough; no PyTorch."""
