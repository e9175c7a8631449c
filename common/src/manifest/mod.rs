//! `cutover.toml`: text in, a checked manifest or all its mistakes out.
