"""Speech to text: recognisers, the stretches that they are given, and the transcripts that come out."""
