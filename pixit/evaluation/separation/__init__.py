"""Score separated tracks of any system, against references or by themselves.

`score.score_separation` compares with references, `statistics.measure_tracks` does without; `metrics` holds the
measures, `signals` streams what they need from files, `files` finds those, and `table` prints.
"""
