"""The plain sentences of a report on removed channels."""

from compress.audit import entries, headline


def version(name, sparsity, tar, eer, disk, bits=32):
  return {
    'name': name,
    'method': name,
    'baseline': name.startswith('one_shot'),
    'weight_bits': bits,
    'activation_bits': bits,
    'sparsity': sparsity,
    'verification': {'eer': eer, 'tar_at_far': {'1e-2': tar}},
    'bytes': {'on_disk': disk},
  }


def test_one_sentence_for_each_share_of_channels():
  report = {
    'reference': version('net', 0.0, 100.0, 0.0, 4e6),
    'variants': [
      version('one_shot 20% w8a8', 0.2, 60.0, 12.0, 1e6, bits=8),
      version('one_shot 20%', 0.2, 60.0, 10.0, 2e6),
      version('embedding 20%', 0.2, 90.0, 2.0, 2e6),
      version('one_shot 50%', 0.5, 30.0, 30.0, 1e6),
      version('embedding 50%', 0.5, 20.0, 31.0, 1e6),
    ],
  }
  lines = headline.summary(entries.versions(report))
  assert [line.replace('\N{NO-BREAK SPACE}', ' ') for line in lines] == [
    'The network without 20 % of its channels (embedding 20%, the best of 2) '
    'is 2.0 times smaller on disk and has an equal error rate of 2.00 %. '
    'Fine-tuning (embedding 20%) wins back 75 % of what removing channels '
    'alone lost (TAR at FAR 1e-2: 100.00 % reference, 60.00 % untuned, '
    '90.00 % after).',
    'The network without 50 % of its channels (one_shot 50%, the best of 2) '
    'is 4.0 times smaller on disk and has an equal error rate of 30.00 %. '
    'Fine-tuning did not help: embedding 50%, the best of it, stays below '
    'removing channels alone (TAR at FAR 1e-2: 100.00 % reference, 30.00 % '
    'untuned, 20.00 % after).',
    'The 8-bit network without 20 % of its channels (one_shot 20% w8a8) is '
    '4.0 times smaller on disk and has an equal error rate of 12.00 %.',
  ]
