"""The bus's topics: one for each kind of message that subsystems publish."""

SYSTEM_STATE = "system-state"
ADAPTATION_COMMAND = "adaptation-command"
FIELD_REPORT = "field-report"
TELEMETRY = "telemetry"
EMERGENCY = "emergency-signal"
KERNEL_REQUEST = "kernel-prefetch-request"
KERNEL_READY = "kernel-prefetch-ready"
KERNEL_ERROR = "kernel-prefetch-error"
KERNEL_CATALOG = "kernel-catalog-update"

KERNELS = (KERNEL_REQUEST, KERNEL_READY, KERNEL_ERROR, KERNEL_CATALOG)
ALL = (SYSTEM_STATE, ADAPTATION_COMMAND, FIELD_REPORT, TELEMETRY, EMERGENCY, *KERNELS)
