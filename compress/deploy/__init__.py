"""The compressed model in other runtimes."""

from compress.deploy.onnx_export import to_onnx as to_onnx
