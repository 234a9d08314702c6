//! The block devices' part of `linux.resources`.
//!
//! Owns the values of `io.*` files. Device numbers are the guest's.

use caisson_protocol::cgroup::{io_max, io_weight};
use oci_spec::runtime::LinuxBlockIo;

use super::{
    setting::{Setting, add as setting},
    state::CgroupState,
};

/// Adds the settings; one write for each device and each limit of it.
pub(super) fn add(settings: &mut Vec<Setting>, block: &LinuxBlockIo, state: &CgroupState) {
    let (file, convert): (_, fn(u16) -> u16) = if state.has_bfq {
        ("io.bfq.weight", std::convert::identity)
    } else {
        ("io.weight", io_weight)
    };
    if let Some(weight) = block.weight().filter(|&weight| weight != 0) {
        setting(settings, file, convert(weight).to_string());
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|&weight| weight != 0) {
            let (major, minor) = (device.major(), device.minor());
            let value = format!("{major}:{minor} {}", convert(weight));
            setting(settings, file, value);
        }
    }
    for (key, devices) in [
        ("rbps", block.throttle_read_bps_device()),
        ("wbps", block.throttle_write_bps_device()),
        ("riops", block.throttle_read_iops_device()),
        ("wiops", block.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            let value = io_max(device.major(), device.minor(), key, device.rate());
            setting(settings, "io.max", value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str, state: &CgroupState) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        add(&mut settings, &serde_json::from_str(json).unwrap(), state);
        let pair = |one: Setting| (one.file, one.value);
        settings.into_iter().map(pair).collect()
    }

    fn is(file: &str, value: &str) -> (String, String) {
        (file.to_owned(), value.to_owned())
    }

    #[test]
    fn weights_go_to_the_scheduler_that_is_there() {
        let json = r#"{"weight":500,"weightDevice":[{"major":254,"minor":0,"weight":10}]}"#;
        let bfq = CgroupState {
            has_bfq: true,
            ..CgroupState::default()
        };
        assert_eq!(
            written(json, &bfq),
            [is("io.bfq.weight", "500"), is("io.bfq.weight", "254:0 10")]
        );
        assert_eq!(
            written(json, &CgroupState::default()),
            [is("io.weight", "4950"), is("io.weight", "254:0 1")]
        );
    }

    #[test]
    fn each_throttle_is_a_line_of_one_file() {
        let json = r#"{
            "throttleReadBpsDevice":[{"major":254,"minor":0,"rate":1048576}],
            "throttleWriteIOPSDevice":[{"major":254,"minor":16,"rate":0}]}"#;
        assert_eq!(
            written(json, &CgroupState::default()),
            [
                is("io.max", "254:0 rbps=1048576"),
                is("io.max", "254:16 wiops=max")
            ]
        );
    }
}
