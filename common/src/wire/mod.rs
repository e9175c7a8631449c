//! The border: the only place that names generated types.
