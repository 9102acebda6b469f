"""The benchmark harness around pathrnn: declarative suites, records, reports. Start with ``python -m bench --help``."""
