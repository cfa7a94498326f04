"""Opening an ONNX model in onnxruntime."""

import pathlib

from compress.errors import InputError

SESSION_CONFIG = {
  # Else float activations are rounded to 8 bits before int8 kernels.
  'session.qdq_matmulnbits_accuracy_level': '1',
  # Threads that have nothing to do leave the processors to others.
  'session.force_spinning_stop': '1',
}
"""What every session here is opened with, as onnxruntime names it."""


def open_session(
  model, *, threads: int = 2, optimized: str | pathlib.Path | None = None
):
  """An onnxruntime session on the CPU.

  x86 processors without an 8-bit dot product (AVX-VNNI, AVX512-VNNI) add pairs
  of products of 8-bit numbers in 16 bits, which saturate; weights of 7 bits or
  fewer never do (2 * 255 * 63 < 2^15), so quantize to those for such machines.

  Args:
    model: an `onnx.ModelProto`, or the path of one.
    threads: that one operation may use.
    optimized: where to write the graph as it will be run.

  Returns:
    The `onnxruntime.InferenceSession`.

  Raises:
    InputError: onnxruntime is not installed, or there is no such file.
  """
  try:
    import onnxruntime
  except ImportError:
    raise InputError(
      "running ONNX needs onnxruntime: pip install -e '.[deploy]'"
    ) from None
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  options.inter_op_num_threads = 1
  for key, value in SESSION_CONFIG.items():
    options.add_session_config_entry(key, value)
  if optimized is not None:
    # It warns that the file is for this machine alone.
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimized)
  if isinstance(model, str | pathlib.Path):
    if not pathlib.Path(model).is_file():
      raise InputError(f'{model}: there is no such file')
    model = str(model)
  else:
    model = model.SerializeToString()
  return onnxruntime.InferenceSession(
    model, options, providers=['CPUExecutionProvider']
  )
