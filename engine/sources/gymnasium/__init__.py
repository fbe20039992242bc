"""Any Gymnasium environment that shows pictures as a source."""
