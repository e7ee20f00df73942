"""Export a release and run it with ONNX Runtime."""
