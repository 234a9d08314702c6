//! From which memory nodes of the host a machine's memory comes:
//! `linux.memoryPolicy`, set on the owner, whose helpers inherit it
//! (set_mempolicy(2)).

use std::io;

use oci_spec::runtime::{MemoryPolicyFlagType, MemoryPolicyModeType, Spec};
use serde::{Deserialize, Serialize};

use crate::sys;

/// Nodes that Linux can have (CONFIG_NODES_SHIFT of distributions).
const MAX_NODES: usize = 1024;

/// Modes of the runtime specification, all of which are applied.
pub const MODES: &[&str] = &[
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// The same of flags.
pub const FLAGS: &[&str] = &[
    "MPOL_F_STATIC_NODES",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_NUMA_BALANCING",
];

/// A policy as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    mode: i32,
    /// One bit per node, the lowest first.
    nodes: Vec<u64>,
}

/// A set of nodes that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("linux.memoryPolicy.nodes: {0:?} is not a list of nodes such as 0-1,3 below {MAX_NODES}")]
pub struct Malformed(String);

impl MemoryPolicy {
    /// Takes it from config.json.
    ///
    /// # Errors
    /// When the nodes can't be read.
    pub fn planned(spec: &Spec) -> Result<Option<Self>, Malformed> {
        let linux = spec.linux().as_ref();
        let Some(policy) = linux.and_then(|linux| linux.memory_policy().as_ref()) else {
            return Ok(None);
        };
        let flags = policy.flags().iter().flatten();
        let nodes = policy.nodes().as_deref().unwrap_or_default();
        Ok(Some(Self {
            mode: flags.fold(mode(policy.mode()), |mode, flag| mode | bit(*flag)),
            nodes: parse(nodes).ok_or_else(|| Malformed(nodes.to_owned()))?,
        }))
    }

    /// Sets it for this thread and all that it starts from now on.
    ///
    /// # Errors
    /// The kernel's: without NUMA it has no such call, and it refuses nodes
    /// that the host lacks.
    pub(crate) fn apply(&self) -> io::Result<()> {
        sys::set_memory_policy(self.mode, &self.nodes)
    }
}

/// Numbers of linux/mempolicy.h.
const fn mode(mode: MemoryPolicyModeType) -> i32 {
    match mode {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    }
}

const fn bit(flag: MemoryPolicyFlagType) -> i32 {
    match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    }
}

fn parse(list: &str) -> Option<Vec<u64>> {
    let mut nodes = vec![0; MAX_NODES / 64];
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        for node in first..=last.min(MAX_NODES) {
            *nodes.get_mut(node / 64)? |= 1 << (node % 64);
        }
    }
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_become_bits() {
        let nodes = parse("0-1, 3,64").unwrap();
        assert_eq!(nodes[..2], [0b1011, 1]);
        assert_eq!(parse("").unwrap(), vec![0; 16]);
        for wrong in ["a", "2-1", "1024", "0-1024", "-1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mode_and_flags_are_one_number() {
        let config = serde_json::json!({
            "ociVersion": "1.3.0",
            "linux": {"memoryPolicy": {
                "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"],
            }},
        });
        let spec = serde_json::from_value(config).unwrap();
        let policy = MemoryPolicy::planned(&spec).unwrap().unwrap();
        assert_eq!((policy.mode, policy.nodes[0]), (0x8002, 1));
    }
}
