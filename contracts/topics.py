"""The bus's topics: one for each kind of message that subsystems publish."""

SYSTEM_STATE = "system-state"
ADAPTATION_COMMAND = "adaptation-command"
FIELD_REPORT = "field-report"
TELEMETRY = "telemetry"
EMERGENCY = "emergency-signal"

ALL = (SYSTEM_STATE, ADAPTATION_COMMAND, FIELD_REPORT, TELEMETRY, EMERGENCY)
