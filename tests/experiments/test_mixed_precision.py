"""Mixed precision: a minimal run, its resumption, and what is refused."""

import json

import pytest

from compress.errors import InputError
from experiments.faces import exported, mixed_precision, networks
from experiments.faces.recipe import Recipe
from tests.experiments import command_line


def test_layers_with_bits_of_their_own():
  recipe = Recipe(weight_bits=4, layer_bits=[['stem/kernel', 8]])
  rules = recipe.weight_rules()
  assert [spec.bits for _, spec in rules] == [8, 4]
  assert recipe.is_integer and hash(recipe)
  assert not Recipe(weight_bits=4, layer_bits=(('a', 16),)).is_integer


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--bits=1,4'], 'whole numbers from 2 to 8'),
    (['--bits=four'], 'whole numbers from 2 to 8'),
    (['--budgets=9'], 'whole numbers from 2 to 8'),
    (['--bits=4,8'], '--budgets: right are some of --bits'),
  ],
)
def test_bad_flags_leave_nothing_behind(flags, message, tmp_path):
  output = tmp_path / 'out'
  done = command_line.start('mixed_precision', *flags, output=output)
  command_line.assert_refused(done, message)
  assert not output.exists()


@pytest.mark.slow
def test_a_minimal_run(tmp_path):
  settings = mixed_precision.Settings(smoke=True)
  options = {'output_dir': str(tmp_path), 'command': 'x'}
  table, paths = mixed_precision.run(settings, resume=False, **options)
  assert 'w4' in table
  report = json.loads(paths['json'].read_text())
  uniform, mixed = report['variants']
  assert mixed['bytes']['packed'] <= uniform['bytes']['packed']
  assert set(mixed['layer_bits']) == set(report['sensitivities'])
  assert len(set(mixed['layer_bits'].values())) > 1
  assert mixed['predicted_loss'] < uniform['predicted_loss']
  page = paths['html'].read_text()
  assert 'id="pareto-front"' in page and 'id="inputs"' in page
  stored = exported.read_stored(
    next(tmp_path.glob('networks/mixed*/network.safetensors')),
    networks.load_network('sface'),
  )
  assert dict(stored.recipe.layer_bits) == mixed['layer_bits']

  before = paths['json'].stat().st_mtime_ns
  again, _ = mixed_precision.run(settings, resume=True, **options)
  assert again == table and paths['json'].stat().st_mtime_ns > before
  with pytest.raises(InputError, match='another activation_bits'):
    mixed_precision.run(
      mixed_precision.Settings(smoke=True, activation_bits=6),
      resume=True,
      **options,
    )
