//! Faults and crashes of the simulated world.
