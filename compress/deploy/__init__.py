"""The compressed model in other runtimes."""

from compress.deploy.lower import Lowered as Lowered
from compress.deploy.lower import lower as lower
from compress.deploy.onnx_export import to_onnx as to_onnx
from compress.deploy.session import SESSION_CONFIG as SESSION_CONFIG
from compress.deploy.session import open_session as open_session
from compress.deploy.stablehlo import Program as Program
from compress.deploy.stablehlo import compile_program as compile_program
from compress.deploy.stablehlo import load_program as load_program
from compress.deploy.stablehlo import save_program as save_program
from compress.deploy.stablehlo import to_stablehlo as to_stablehlo
from compress.deploy.weight_only import WeightOnly as WeightOnly
from compress.deploy.weight_only import (
  quantize_weights_only as quantize_weights_only,
)
from compress.deploy.weight_only import (
  to_onnx_weight_only as to_onnx_weight_only,
)
