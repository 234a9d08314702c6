//! From values of `linux.resources`, which are those of cgroup v1, to those of v2.
//!
//! Owns the conversions that both sides make, so that a limit means the same in
//! the guest and on the host. Writes no file.

/// From CPU shares (2 to 262144, default 1024) to weight (1 to 10000, default
/// 100): by the curve on which both defaults and both ends lie, rounded up as
/// runc does.
#[must_use]
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => return 1,
        262_144.. => return 10_000,
        _ => {}
    }
    // In range, so neither conversion loses anything.
    let log2 = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
    let exponent = log2.mul_add(log2, 125.0 * log2) / 612.0 - 7.0 / 34.0;
    let weight = 10_f64.powf(exponent).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 10000 for shares in range"
    )]
    let weight = weight as u64;
    weight
}

/// From the block I/O weight of BFQ (10 to 1000) to that of the cost model (1 to
/// 10000), on a line through both ends.
#[must_use]
pub fn io_weight(weight: u16) -> u16 {
    let weight = u32::from(weight.clamp(10, 1000));
    u16::try_from(1 + (weight - 10) * 9999 / 990).unwrap_or(10_000)
}

/// A line of `io.max` for the device `major:minor`; no rate is no limit. `key` is
/// `rbps`, `wbps`, `riops` or `wiops`.
#[must_use]
pub fn io_max(major: i64, minor: i64, key: &str, rate: u64) -> String {
    match rate {
        0 => format!("{major}:{minor} {key}=max"),
        rate => format!("{major}:{minor} {key}={rate}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_weights_keep_their_ends_and_defaults() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(cpu_weight(shares), weight);
        }
        for (shares, weight) in [(0, 1), (u64::MAX, 10_000)] {
            assert_eq!(cpu_weight(shares), weight, "out of range");
        }
        assert!(cpu_weight(512) < 100 && cpu_weight(2048) > 100);
    }

    #[test]
    fn io_weights_keep_their_ends() {
        for (weight, expected) in [(10, 1), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), expected);
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(io_max(254, 16, "wiops", 0), "254:16 wiops=max");
        assert_eq!(io_max(254, 0, "rbps", 5), "254:0 rbps=5");
    }
}
