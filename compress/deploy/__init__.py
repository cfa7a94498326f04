"""The compressed model in other runtimes."""

from compress.deploy.biases import round_biases as round_biases
from compress.deploy.onnx_export import to_onnx as to_onnx
from compress.deploy.session import open_session as open_session
