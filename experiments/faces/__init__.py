"""Parts that the face studies share: networks, people, students, judgement."""
