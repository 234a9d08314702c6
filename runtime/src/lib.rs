//! caisson
