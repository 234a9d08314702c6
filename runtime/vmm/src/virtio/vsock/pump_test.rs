//! Tests of `pump`, without a machine.
