r"""Times a distillation step, beside the teacher alone and the student alone.

A step of a student that is taught costs the teacher's forward pass, the
student's own step, and what the loss takes. All three are compiled programs on
the same batch, timed in turns, in one process, each behind an untimed call of
its own. overhead is (step − teacher) / plain: 1 if the loss were free.

  python -m experiments.benchmarks.distillation_step
  python -m experiments.benchmarks.distillation_step --pair=resnet20:resnet8 \
      --method=KD --method=CRD --batch=128 --json=distillation.json

Columns: plain_ms, teacher_ms, step_ms, medians; overhead, the median over
rounds.
"""

import functools
import pathlib
import time

from absl import flags

from compress.errors import InputError
from experiments import cli

_PAIR = flags.DEFINE_multi_string(
  'pair',
  ['resnet56:resnet20', 'resnet20:resnet8', 'resnet20:mobilenet'],
  'teacher:student, as in experiments.distillation_benchmark; repeat the flag '
  'for several.',
)
_METHOD = flags.DEFINE_multi_string(
  'method',
  ['KD', 'FitNet', 'AT', 'SP', 'VID', 'RKD', 'PKT', 'NST', 'CRD'],
  'Ways to teach, the last stage of each; repeat the flag for several.',
)
_IMAGES = 4096  # of the training set that contrasts remember
_BATCH = flags.DEFINE_integer('batch', 64, 'Images a step.', 2, _IMAGES)
_SIZE = flags.DEFINE_integer('size', 32, 'Pixels a side.', 4)
_REPEATS = flags.DEFINE_integer('repeats', 15, 'Timed rounds.', 1)
_JSON = flags.DEFINE_string('json', None, 'Path to write the figures to.')
_SMOKE = flags.DEFINE_boolean(
  'smoke', False, 'One pair, one method and one round, to see that it works.'
)


def measure(
  pair: str, methods, *, batch: int, size: int, repeats: int
) -> dict[str, dict[str, float]]:
  """Times the methods of one pair; see the module's docstring for the keys."""
  import jax
  import numpy as np

  from compress import train
  from experiments.classification import (
    distillation_methods,
    distillation_networks,
    distillation_stages,
    teaching,
  )

  unknown = [x for x in methods if x not in distillation_methods.METHODS]
  if unknown:
    known = ', '.join(distillation_methods.METHODS)
    raise InputError(f'--method={unknown[0]}: right would be one of {known}')
  names = distillation_networks.parse_pair(pair)

  @functools.cache
  def networks(subclasses):
    return [
      distillation_networks.make_network(
        name, image_shape=(size, size, 3), classes=10, subclasses=subclasses
      )
      for name in names
    ]

  shapes = [
    distillation_networks.feature_shapes(*x)
    for x in zip(names, networks(1), strict=True)
  ]
  rng = np.random.default_rng(0)
  data = {
    'images': rng.normal(size=(batch, size, size, 3)).astype(np.float32),
    'labels': rng.integers(0, 10, batch).astype(np.int32),
    'indices': rng.permutation(_IMAGES)[:batch].astype(np.int32),
  }
  setting = distillation_stages.Setting(
    shapes=distillation_stages.Shapes(shapes[1], shapes[0]),
    labels=np.arange(_IMAGES) % 10,
    classes=10,
    temperature=4.0,
    hard_weight=0.1,
  )
  optimizer = train.adam(1e-6)

  def step_of(method):
    teacher, student = networks(distillation_methods.METHODS[method].subclasses)
    start = student.init(jax.random.key(0))
    variables = teacher.init(jax.random.key(1))
    extra, memory, stage = {}, {}, None
    for stage in distillation_methods.METHODS[method].make(setting):
      extra, memory = distillation_stages.begin(stage, extra, jax.random.key(2))
    known = [distillation_networks.KNOWN[x].features for x in names]
    loss_fn = teaching.make_loss(
      student,
      teacher,
      loss=stage.loss,
      features={x: (known[1][x], known[0][x]) for x in stage.features},
    )
    needs = distillation_methods.METHODS[method].teacher
    state = train.init_state(
      {'params': start['params'], 'extra': extra},
      optimizer,
      {
        'collections': {k: v for k, v in start.items() if k != 'params'},
        'memory': memory,
        'teacher': variables if needs else {},
      },
      jax.random.key(4),
    )
    # Donated, the same arrays would serve one method alone.
    state = jax.tree.map(jax.numpy.copy, state)
    given = data if needs else {**data, 'teacher': ()}
    jitted = jax.jit(train.make_step(loss_fn, optimizer), donate_argnums=0)
    return state, jitted.lower(state, given).compile(), given

  teacher, _ = networks(1)
  variables = teacher.init(jax.random.key(1))
  look = jax.jit(teacher.apply).lower(variables, data['images']).compile()
  steps = {name: step_of(name) for name in ('alone', *methods)}
  states = {name: state for name, (state, _, _) in steps.items()}

  def once(name):
    begun = time.perf_counter()
    if name is None:
      jax.block_until_ready(look(variables, data['images']))
    else:
      _, run, given = steps[name]
      states[name], _ = jax.block_until_ready(run(states[name], given))
    return time.perf_counter() - begun

  def steady(name):
    # As in the benchmark of the training step.
    once(name)
    return once(name)

  rounds = [
    {name: steady(name) for name in (None, *steps)} for _ in range(repeats)
  ]
  plain, looked = (
    float(np.median([r[name] for r in rounds])) for name in ('alone', None)
  )
  return {
    name: {
      'plain_ms': 1e3 * plain,
      'teacher_ms': 1e3 * looked,
      'step_ms': 1e3 * float(np.median([r[name] for r in rounds])),
      'overhead': float(
        np.median([(r[name] - r[None]) / r['alone'] for r in rounds])
      ),
    }
    for name in methods
  }


def main() -> None:
  """Measures the pairs, prints the table, writes the JSON."""
  pairs, methods, repeats = _PAIR.value, _METHOD.value, _REPEATS.value
  if _SMOKE.value:
    pairs, methods, repeats = ['resnet8_thin:resnet8_thin'], ['AT'], 1
  if 'alone' in methods:
    raise InputError('--method=alone: it is what the others are compared with')
  if _JSON.value and not pathlib.Path(_JSON.value).parent.is_dir():
    raise InputError(f'--json={_JSON.value}: there is no such folder')
  columns = ('plain_ms', 'teacher_ms', 'step_ms', 'overhead')
  figures = {}
  for pair in pairs:
    figures[pair] = measure(
      pair,
      methods,
      batch=8 if _SMOKE.value else _BATCH.value,
      size=8 if _SMOKE.value else _SIZE.value,
      repeats=repeats,
    )
    print(f'{pair:28}' + ''.join(f'{c:>12}' for c in columns))
    for method, found in figures[pair].items():
      row = ''.join(f'{found[c]:12.2f}' for c in columns)
      print(f'  {method:26}{row}', flush=True)
  if _JSON.value:
    from experiments import folder

    folder.write_json(pathlib.Path(_JSON.value), figures)


if __name__ == '__main__':
  cli.run(main)
