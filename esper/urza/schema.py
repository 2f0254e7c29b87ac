"""The catalogue's tables. Strict, so that a value has its column's type whoever wrote it.

| table | a row is |
| --- | --- |
| artifacts | a published file; `used` orders them by last use, `version` counts a specification's kernels |
| designs | the newest certificate of a design |
| work | a kernel that is wanted, in the order of asking |
| wanters | who wants it: a run, and the user of the store that speaks for it |
| given_up | a design that can't be made, with what that was true for |
| holds | an artifact that a user of the store holds for a holder (a run) |
| tags | a word on an artifact |
| quarantine | a file that was found damaged |
"""

VERSION = 2
TABLES = (
    "CREATE TABLE artifacts (ref TEXT PRIMARY KEY, kind TEXT NOT NULL, spec_key TEXT NOT NULL, "
    "design_key TEXT NOT NULL, guard TEXT NOT NULL, rank INTEGER NOT NULL, version INTEGER NOT NULL, "
    "size INTEGER NOT NULL, used INTEGER NOT NULL) STRICT",
    "CREATE TABLE designs (design_key TEXT PRIMARY KEY, certificate TEXT NOT NULL) STRICT",
    "CREATE TABLE work (spec_key TEXT PRIMARY KEY, design_key TEXT NOT NULL, spec TEXT NOT NULL, "
    "ordinal INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL) STRICT",
    "CREATE TABLE wanters (spec_key TEXT NOT NULL REFERENCES work ON DELETE CASCADE, wanter TEXT NOT NULL, "
    "user TEXT NOT NULL, PRIMARY KEY (spec_key, wanter, user)) STRICT",
    "CREATE TABLE given_up (design_key TEXT PRIMARY KEY, design TEXT NOT NULL, guard TEXT NOT NULL, "
    "reason TEXT NOT NULL) STRICT",
    "CREATE TABLE holds (ref TEXT NOT NULL, holder TEXT NOT NULL, user TEXT NOT NULL, "
    "PRIMARY KEY (ref, holder, user)) STRICT",
    "CREATE TABLE tags (ref TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (ref, tag)) STRICT",
    "CREATE TABLE quarantine (aside TEXT PRIMARY KEY, ordinal INTEGER NOT NULL, ref TEXT NOT NULL, "
    "reason TEXT NOT NULL, size INTEGER NOT NULL) STRICT",
    "CREATE INDEX artifacts_of_spec ON artifacts (spec_key, kind)",
    "CREATE INDEX artifacts_of_design ON artifacts (design_key, kind)",
    "CREATE INDEX artifacts_by_use ON artifacts (used)",
)
