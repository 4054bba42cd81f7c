//! The writer lock (its state machine follows).
