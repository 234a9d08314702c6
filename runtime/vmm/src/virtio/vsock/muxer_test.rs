//! Tests of `muxer`, without a machine.
