//! caisson-jail
