"""Who spoke when and who said what, as files: one module for each format or task."""
