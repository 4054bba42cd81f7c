//! Eight MD5 streams in one pass.
