"""What studies of classifiers share: networks, data, training, judgement."""
