import json
import subprocess
import sys


def test_the_benchmark_of_inference_writes_its_figures(tmp_path):
  path = tmp_path / 'figures.json'
  command = [sys.executable, '-m', 'experiments.benchmarks.inference']
  flags = ['--smoke', '--calibration=4', f'--json={path}']
  done = subprocess.run([*command, *flags], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  found = json.loads(path.read_text())['tiny']
  for key in ('float32_ms', 'int8_ms', 'static_ms', 'jax_ms', 'speedup'):
    assert found[key] > 0
  assert found['cosine'] > 0.99
  assert 'Conv' not in found['operations']


def test_an_unknown_network_is_named():
  command = [sys.executable, '-m', 'experiments.benchmarks.inference']
  done = subprocess.run(
    [*command, '--network=nothing'], capture_output=True, text=True
  )
  assert done.returncode == 2
  assert '--network=nothing' in done.stderr
