"""Self-contained HTML pages: a study, a data set; search/training/report.py makes one of a full training."""
