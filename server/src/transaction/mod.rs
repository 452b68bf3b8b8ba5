//! Transactions (KIP-98, KIP-890): which producer may write under a transactional id, what takes part in its transaction,
//! and how that ends.
//!
//! ```text
//! InitProducerId ─┐                                   ┌─ first write of a transaction to a partition: `admission`
//! AddPartitions   ├▶ service ─▶ machine ─▶ coordinator ◀
//! EndTxn         ─┘     │         (records of `__transaction_state`)
//!                       └─▶ markers ─▶ every partition that took part ─▶ complete
//! ```

pub mod admission;
pub mod coordinator;
pub mod ids;
pub mod machine;
pub mod markers;
pub mod record;
pub mod service;
pub mod state;
