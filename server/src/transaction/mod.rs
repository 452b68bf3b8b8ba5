//! Transactions (KIP-98, KIP-890): which producer may write under a transactional id, what takes part in its transaction,
//! and how that ends.

pub mod coordinator;
pub mod machine;
pub mod record;
pub mod state;
