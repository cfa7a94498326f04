"""Programs of StableHLO: a compressed model without its Python.

`jax.export` turns a function into a portable program; any JAX of the next
months, and other runtimes of StableHLO, run it without the model's code.
Weights are arguments of the program, not constants in it. As constants they
would lie in the program uncompressed (StableHLO has no integers of 4 bits that
every runtime stores in half a byte), and a compiler would compute the
dequantized weights once and keep them: four bytes a weight in memory instead
of one or a half. As arguments they stay what the file holds, and a program
serves every set of weights of its shape.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jax import export

from compress import graph as graph_lib
from compress.deploy.stored import store
from compress.errors import InputError

_FORMAT = 'compress.stablehlo'
_VERSION = 1
_PROGRAM = 'stablehlo'
_PREFIX = 'weights/'
_OTHER = 3
"""A batch to try where a symbolic one failed."""


class Program(NamedTuple):
  """A model as StableHLO.

  Attributes:
    stablehlo: `jax.export`'s serialization of `(weights, *inputs) -> outputs`.
    weights: the first argument, name to array.
    metadata: JSON-able.
  """

  stablehlo: bytes
  weights: dict[str, np.ndarray]
  metadata: dict[str, Any]


def to_stablehlo(
  apply: Callable[..., Any],
  variables,
  *inputs,
  batch: int | None = None,
  each: bool = False,
  platforms: Sequence[str] = ('cpu',),
  metadata: dict[str, Any] | None = None,
) -> Program:
  """Exports a model, with its weights as they are stored.

  Packed tensors stay packed: the program dequantizes. Depthwise convolutions
  are run as `graph.depthwise_conv` on a CPU, one image at a time, since XLA's
  own are slow there.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: nested dict of arrays or packed tensors.
    *inputs: arrays or `jax.ShapeDtypeStruct`s `[B, ...]`.
    batch: what B is; None for any.
    each: run one example at a time, so that the model meets batches of 1
      only. Any model that treats examples apart can be exported so, also one
      whose own code reads the number of examples.
    platforms: of `jax.export`: `cpu`, `cuda`, `rocm`, `tpu`.
    metadata: JSON-able, goes into the file.

  Returns:
    The program.

  Raises:
    InputError: the model cannot be exported for any batch: an operation of it
      depends on the number of examples.
  """
  weights, rebuild = store(variables)
  if tuple(platforms) == ('cpu',):
    apply = graph_lib.rewrite(apply, _depthwise_by_image)

  def call(weights, *inputs):
    values = rebuild(weights)
    if not each:
      return apply(values, *inputs)
    return jax.lax.map(
      lambda example: jax.tree.map(
        lambda out: out[0],
        apply(values, *jax.tree.map(lambda x: x[None], example)),
      ),
      inputs,
    )

  def traced(size):
    shapes = [
      jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for x in inputs
    ]
    given = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights
    )
    return export.export(jax.jit(call), platforms=list(platforms))(
      given, *shapes
    )

  if batch is not None:
    exported = traced(batch)
  else:
    (size,) = export.symbolic_shape('batch')
    try:
      exported = traced(size)
    except InputError:
      raise
    except Exception as error:
      # What fails for three examples too is not the batch's fault.
      traced(_OTHER)
      reason = str(error).strip().splitlines()
      raise InputError(
        'the model cannot be exported for any number of examples '
        f'({reason[0] if reason else type(error).__name__}); give each=True to '
        'run them one at a time, or batch=N to export it for N'
      ) from error
  return Program(bytes(exported.serialize()), weights, dict(metadata or {}))


def compile_program(program: Program) -> Callable[..., Any]:
  """The model as a function of its inputs, compiled when first called.

  Args:
    program: from `to_stablehlo` or `load_program`.

  Returns:
    `function(*inputs)`, the inputs of the types and shapes exported.

  Raises:
    InputError: the program is none, or of a newer JAX.
  """
  try:
    exported = export.deserialize(bytearray(program.stablehlo))
  except Exception as error:
    raise InputError(
      f'this JAX ({jax.__version__}) cannot read the program: {error}'
    ) from error
  function = jax.jit(exported.call)
  weights = jax.device_put(program.weights)
  return lambda *inputs: function(weights, *inputs)


def save_program(path: str | os.PathLike, program: Program) -> int:
  """Writes a program and its weights into one safetensors file.

  Args:
    path: of the file; replaced at once, when all is written.
    program: what to write.

  Returns:
    Bytes of the file.

  Raises:
    InputError: it cannot be written.
  """
  path = pathlib.Path(path)
  tensors = {_PROGRAM: np.frombuffer(program.stablehlo, np.uint8)}
  for name, array in program.weights.items():
    tensors[_PREFIX + name] = np.asarray(array, order='C')
  metadata = {
    'format': _FORMAT,
    'version': str(_VERSION),
    'jax': jax.__version__,
    'metadata': json.dumps(program.metadata),
    'sha256': _digest(tensors),
  }
  data = safetensors.numpy.save(tensors, metadata)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    with temporary.open('wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    raise InputError(f'{path}: {error.strerror or error}') from error
  finally:
    temporary.unlink(missing_ok=True)
  return len(data)


def load_program(path: str | os.PathLike) -> Program:
  """Reads what `save_program` wrote.

  Args:
    path: of the file.

  Returns:
    The program.

  Raises:
    InputError: no such file, or truncated, altered, or of another kind.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise InputError(f'{path}: there is no such file')
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      header = file.metadata() or {}
      if header.get('format') != _FORMAT:
        raise InputError(f'{path}: a safetensors file, but no program')
      if header.get('version') != str(_VERSION):
        raise InputError(
          f'{path}: version {header.get("version")} of the format; this '
          f'library reads {_VERSION}'
        )
      tensors = {name: file.get_tensor(name) for name in file.keys()}
  except (safetensors.SafetensorError, OSError, ValueError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError(f'{path}: truncated or damaged ({error})') from error
  if _digest(tensors) != header.get('sha256') or _PROGRAM not in tensors:
    raise InputError(f'{path}: altered since it was written')
  program = tensors.pop(_PROGRAM).tobytes()
  weights = {n.removeprefix(_PREFIX): x for n, x in tensors.items()}
  return Program(program, weights, json.loads(header['metadata']))


def _digest(tensors: dict[str, np.ndarray]) -> str:
  digest = hashlib.sha256()
  for name in sorted(tensors):
    array = tensors[name]
    digest.update(f'{name} {array.dtype.str} {array.shape}'.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def _depthwise_by_image(site, op, *operands):
  """Rule: depthwise convolutions by shifted sums, for any number of images."""
  params = site.params
  plain = (
    site.kind == 'conv'
    and operands[0].ndim == 4
    and graph_lib.is_image_convolution(params)
    and params['feature_group_count'] == operands[0].shape[3]
    and params['feature_group_count'] == operands[1].shape[3]
    and set(params['rhs_dilation']) == {1}
  )
  if not plain:
    return op(*operands)
  images, kernel = operands

  def one(image):
    return graph_lib.depthwise_conv(
      image[None],
      kernel,
      strides=params['window_strides'],
      padding=params['padding'],
    )[0]

  return jax.lax.map(one, images)
