//! Which pages of an arena are free.
