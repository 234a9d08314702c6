//! caisson-agent
