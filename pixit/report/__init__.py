"""A page to look at and listen to a separated recording: one HTML file that needs nothing else; and the timeline."""
