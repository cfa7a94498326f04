"""Real SFace on photographs: integers, as simulated, and as exported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import deploy
from compress.packed import unpack_tree
from compress.quantize import integer
from experiments.faces import networks, people, student
from experiments.faces.recipe import Recipe
from tests.quantize.integer_example import float_operations

OPENCV_THRESHOLD = 0.363


def decisions(embeddings):
  unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
  upper = np.triu_indices(len(unit), 1)
  return (unit @ unit.T)[upper] > OPENCV_THRESHOLD


@pytest.mark.slow
def test_sface():
  network, recipe = networks.load_network('sface'), Recipe()
  photographs = np.asarray(people.load_faces('orl').images)
  calibration, test = photographs[:40:4], photographs[200:230:2]
  test = test.astype(np.float32)
  twin = student.make_student(network, recipe, calibration, batch=5)
  model = student.prepare(network, recipe)
  tree = twin.pack(twin.trained, twin.carried)
  found = integer.convert(
    model.apply,
    {**twin.carried['others'], 'params': tree['params']},
    jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32),
    activations=twin.carried['qparams'],
    specs=twin.activation_specs,
  )
  codes = integer.encode(found, test)
  np.testing.assert_array_equal(codes, test.astype(np.uint8))
  assert not float_operations(found.apply, found.variables, codes)
  frozen, plain = (
    jax.jit(student.frozen_twin(network, recipe)),
    unpack_tree(tree),
  )
  exported = deploy.open_session(
    deploy.to_onnx(
      model.apply,
      {**twin.carried['others'], 'params': tree['params']},
      jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32),
      activations=twin.carried['qparams'],
      specs=twin.activation_specs,
    )
  )
  out = jax.jit(found.apply)(found.variables, codes)
  ours = np.asarray(integer.decode(found, out))
  for reference in (
    lambda x: frozen(plain, x),
    lambda x: exported.run(None, {'images': x})[0],
  ):
    agreement = integer.compare(found, reference, test)
    assert agreement.cosine.min() > 0.998
    np.testing.assert_array_equal(
      decisions(ours), decisions(np.asarray(reference(test)))
    )
