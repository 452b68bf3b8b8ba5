//! The store and the per-core runtime of Weir.
