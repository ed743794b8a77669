"""Score separated tracks of any system, against references or by themselves.

`evaluate` does so for folders, and makes the table; for one recording `score.score_separation` compares with
references and `statistics.measure_tracks` does without; `metrics` holds the measures, and `signals` streams what
they need.
"""
