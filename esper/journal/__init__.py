"""What a run tells, on disk: its event log and its field reports, in one SQLite file of the run's folder."""
