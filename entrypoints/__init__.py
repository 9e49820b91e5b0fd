"""One module per MLproject entry point; every one of them is the same few lines."""
