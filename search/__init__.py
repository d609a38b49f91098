"""The service: studies, workers, the command line and what people look at."""
