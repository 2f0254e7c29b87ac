"""The journal's tables. Strict, so that a value has its column's type whoever wrote it.

| table | a row is |
| --- | --- |
| events | something that was published, in the order in which it was heard; ordinals have no gaps |
| reports | a field report on its way to its reader; `acknowledged_ns` is 0 until the reader has it |
| seen | a reader has taken this report down; kept as long as the file |

Every row ends with a seal over all its other values, so that a row that has changed since is known.
"""

from esper.database import Layout

FILE = "journal.sqlite"
EVENTS = "events.jsonl"
"""What is made of the journal when the run ends."""
VERSION = 1
TABLES = (
    "CREATE TABLE events (ordinal INTEGER PRIMARY KEY, topic TEXT NOT NULL, event_id TEXT NOT NULL, "
    "time_ns INTEGER NOT NULL, message BLOB NOT NULL, seal BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX events_by_id ON events (topic, event_id)",
    "CREATE TABLE reports (ordinal INTEGER PRIMARY KEY, report_id TEXT NOT NULL UNIQUE, "
    "written_ns INTEGER NOT NULL, acknowledged_ns INTEGER NOT NULL, payload BLOB NOT NULL, "
    "seal BLOB NOT NULL) STRICT",
    "CREATE INDEX reports_open ON reports (ordinal) WHERE acknowledged_ns = 0",
    "CREATE TABLE seen (reader TEXT NOT NULL, report_id TEXT NOT NULL, seal BLOB NOT NULL, "
    "PRIMARY KEY (reader, report_id)) STRICT, WITHOUT ROWID",
)
BUSY_S = 0.2
"""Nobody else writes: only a reader's short look can be in the way."""
FILE_BYTES_MAX = 1 << 40
VALUE_BYTES_MAX = 16 << 20
LAYOUT = Layout("the journal", VERSION, TABLES, "integrity_check", BUSY_S, FILE_BYTES_MAX, VALUE_BYTES_MAX)
"""`integrity_check` is `quick_check` and a look at every index: a damaged one would hide or double rows."""
