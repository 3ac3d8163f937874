"""What notebooks display: figures, images, tables, source code."""
