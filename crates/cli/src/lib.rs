//! Waits for its content.
