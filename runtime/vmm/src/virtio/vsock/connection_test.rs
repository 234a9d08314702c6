//! Tests of `connection`, without a machine.
