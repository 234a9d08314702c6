//! caisson-fs
