"""A trained network as a file for elsewhere: Python, ONNX, pt2, safetensors, with a model card beside it."""
